//! What only the operating system can give, behind safe functions. The one file with `unsafe`.
