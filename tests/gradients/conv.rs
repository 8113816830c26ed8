//! Convolution, pooling and the normalisations that go with them.
