//! Shapes of normalisations, all of which keep their input's.

use super::{Call, Info};
use crate::onnx::{Dim, OnnxError};

impl Call<'_> {
    /// `X` [N, C, ...]; scale, bias, mean and variance [C].
    pub(super) fn batch_normalization(&self) -> Result<Info, OnnxError> {
        if self.node.int("training_mode").unwrap_or(0) != 0 {
            let expected = "training_mode 0: statistics of a batch cannot be those of one \
                            observation; export the policy after model.eval()";
            return Err(self.wrong(expected, 1));
        }
        let channels = self.channels()?;
        self.check_vectors(1..5, channels)?;
        self.like(0)
    }

    /// `X` [N, C, ...]; scale and bias [C], or one for each group before opset 21.
    pub(super) fn channel_normalization(&self) -> Result<Info, OnnxError> {
        self.same_elements()?;
        let channels = self.channels()?;
        if self.node.op() == "InstanceNormalization" {
            self.check_vectors(1..3, channels)?;
            return self.like(0);
        }
        let groups = self.node.int("num_groups").unwrap_or(0);
        let groups = usize::try_from(groups).ok().filter(|g| *g > 0);
        let groups = groups.ok_or_else(|| self.wrong("num_groups of at least 1", "less"))?;
        if channels.is_some_and(|c| c % groups != 0) {
            let expected = format!("a multiple of {groups} channels");
            return Err(self.wrong(expected, format!("{channels:?}")));
        }
        let each = self.dims(1)?.map(|dims| if dims == [Dim::Fixed(groups)] { groups } else { 0 });
        self.check_vectors(1..3, each.filter(|n| *n > 0).or(channels))?;
        self.like(0)
    }

    /// The size of axis 1, where it is known.
    fn channels(&self) -> Result<Option<usize>, OnnxError> {
        match self.dims(0)? {
            None | Some([_, Dim::Batch, ..]) => Ok(None),
            Some([_, Dim::Fixed(n), ..]) => Ok(Some(*n)),
            Some(dims) => Err(self.wrong("an input of at least 2 axes", format!("{dims:?}"))),
        }
    }

    /// The inputs `which` are vectors of `size`.
    fn check_vectors(
        &self,
        which: std::ops::Range<usize>,
        size: Option<usize>,
    ) -> Result<(), OnnxError> {
        for index in which {
            if let (Some(dims), Some(size)) = (self.dims(index)?, size)
                && dims != [Dim::Fixed(size)]
            {
                let expected = format!("a vector of {size} as input {index}");
                return Err(self.wrong(expected, format!("{dims:?}")));
            }
        }
        Ok(())
    }
}
