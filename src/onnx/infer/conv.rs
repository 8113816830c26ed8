//! Shapes of a family: convolution, pooling and the normalisations that go with them.

use super::{Call, Info, window};
use crate::onnx::{Dim, OnnxError};

/// As [`super::arity`].
pub(super) fn arity(op: &str) -> Option<(usize, usize, usize)> {
    match op {
        "Conv" | "ConvTranspose" => Some((2, 3, 1)),
        "AveragePool" | "GlobalAveragePool" | "GlobalMaxPool" | "MaxPool" => Some((1, 1, 1)),
        "DepthToSpace" | "SpaceToDepth" => Some((1, 1, 1)),
        "BatchNormalization" => Some((5, 5, 1)),
        "GroupNormalization" | "InstanceNormalization" => Some((3, 3, 1)),
        _ => None,
    }
}

impl Call<'_> {
    pub(super) fn conv(&self) -> Result<Option<Vec<Info>>, OnnxError> {
        let info = match self.node.op() {
            "Conv" => self.convolution()?,
            "ConvTranspose" => self.transposed_convolution()?,
            "AveragePool" | "MaxPool" => self.pool()?,
            "GlobalAveragePool" | "GlobalMaxPool" => self.global_pool()?,
            "DepthToSpace" => self.depth_to_space()?,
            "SpaceToDepth" => self.space_to_depth()?,
            "BatchNormalization" => self.batch_normalization()?,
            "GroupNormalization" | "InstanceNormalization" => self.channel_normalization()?,
            _ => return Ok(None),
        };
        Ok(Some(vec![info]))
    }

    /// `X` [N, C, spatial], `W` [M, C / group, kernel], bias [M] to [N, M, windows].
    fn convolution(&self) -> Result<Info, OnnxError> {
        let Some((x, w, group)) = self.image_and_kernel()? else { return self.of(None) };
        let ([batch, channels, spatial @ ..], [maps, each, ..]) = (x, w.as_slice()) else {
            return self.of(None);
        };
        self.check_bias(*maps)?;
        if *channels != Dim::Fixed(each.saturating_mul(group)) || maps % group != 0 {
            let expected = format!("{channels:?} / {group} channels a group and {group} groups");
            return Err(self.wrong(expected, format!("a kernel of {w:?}")));
        }
        let (sizes, kernel) = (known(spatial), kernel_of(&w));
        let window = window(self.node, &kernel, &sizes)?;
        let mut dims = vec![*batch, Dim::Fixed(*maps)];
        for ((dim, size), reach) in spatial.iter().zip(sizes).zip(window) {
            match dim {
                Dim::Batch => return self.of(None),
                Dim::Fixed(_) => dims.push(self.at_least_one(reach.count(size), size)?),
            }
        }
        self.of(Some(dims))
    }

    /// `X` [N, C, spatial], `W` [C, M / group, kernel], bias [M] to [N, M, spread out].
    fn transposed_convolution(&self) -> Result<Info, OnnxError> {
        let Some((x, w, group)) = self.image_and_kernel()? else { return self.of(None) };
        let ([batch, channels, spatial @ ..], [from, each, ..]) = (x, w.as_slice()) else {
            return self.of(None);
        };
        self.check_bias(each.saturating_mul(group))?;
        if *channels != Dim::Fixed(*from) || from % group != 0 {
            let expected = format!("{channels:?} channels in {group} groups");
            return Err(self.wrong(expected, format!("a kernel of {w:?}")));
        }
        if self.node.ints("output_shape").is_some()
            || !matches!(self.node.string("auto_pad"), None | Some("NOTSET" | "VALID"))
        {
            return Err(self.wrong("pads and output_padding", "output_shape or auto_pad"));
        }
        let (sizes, kernel) = (known(spatial), kernel_of(&w));
        let window = window(self.node, &kernel, &sizes)?;
        let more = self.node.ints("output_padding").unwrap_or(&[]);
        let mut dims = vec![*batch, Dim::Fixed(each.saturating_mul(group))];
        for (axis, ((dim, size), reach)) in spatial.iter().zip(sizes).zip(window).enumerate() {
            let more = more.get(axis).copied().unwrap_or(0);
            if !(0..reach.stride).contains(&more) {
                let expected = format!("output_padding of 0 to {}", reach.stride - 1);
                return Err(self.wrong(expected, more));
            }
            let spread = (size - 1).saturating_mul(reach.stride).saturating_add(reach.span());
            let spread = spread.saturating_add(more - reach.before - reach.after);
            match dim {
                Dim::Batch => return self.of(None),
                Dim::Fixed(_) => dims.push(self.at_least_one(spread, size)?),
            }
        }
        self.of(Some(dims))
    }

    /// The image's dims, the kernel's sizes and the number of groups, where the shapes are known.
    #[allow(clippy::type_complexity, reason = "three parts that the two callers take apart")]
    fn image_and_kernel(&self) -> Result<Option<(&[Dim], Vec<usize>, usize)>, OnnxError> {
        self.same_elements()?;
        let group = self.node.int("group").unwrap_or(1);
        let group = usize::try_from(group).ok().filter(|g| *g > 0);
        let group = group.ok_or_else(|| self.wrong("a group of at least 1", "less"))?;
        let (Some(x), Some(w)) = (self.dims(0)?, self.dims(1)?) else { return Ok(None) };
        if x.len() != w.len() || !(3..=5).contains(&x.len()) {
            let expected = "an image and a kernel of 1 to 3 spatial axes";
            return Err(self.wrong(expected, format!("{x:?} and {w:?}")));
        }
        let fixed = |d: &Dim| if let Dim::Fixed(n) = d { Some(*n) } else { None };
        let sizes: Option<Vec<usize>> = w.iter().map(fixed).collect();
        let Some(sizes) = sizes else {
            return Err(self.wrong("a kernel of known size", format!("{w:?}")));
        };
        if let Some(kernel) = self.node.ints("kernel_shape")
            && kernel != kernel_of(&sizes)
        {
            return Err(self.wrong(format!("a kernel of {kernel:?}"), format!("{w:?}")));
        }
        Ok(Some((x, sizes, group)))
    }

    fn check_bias(&self, maps: usize) -> Result<(), OnnxError> {
        match self.has(2).then(|| self.dims(2)).transpose()?.flatten() {
            Some(dims) if dims != [Dim::Fixed(maps)] => {
                Err(self.wrong(format!("a bias of {maps}"), format!("{dims:?}")))
            }
            _ => Ok(()),
        }
    }

    /// A size that must not be empty.
    pub(super) fn at_least_one(&self, count: i64, size: i64) -> Result<Dim, OnnxError> {
        let count_of = usize::try_from(count).ok().filter(|n| *n > 0);
        count_of.map(Dim::Fixed).ok_or_else(|| {
            self.wrong("a window that fits the image", format!("an image of {size} along an axis"))
        })
    }

    /// [N, C, H, W] to [N, C / b², H b, W b].
    fn depth_to_space(&self) -> Result<Info, OnnxError> {
        if !matches!(self.node.string("mode"), None | Some("DCR" | "CRD")) {
            return Err(self.wrong("mode DCR or CRD", "another"));
        }
        let Some((b, [n, c, h, w])) = self.blocks()? else { return self.of(None) };
        match c {
            Dim::Fixed(c) if c % (b * b) == 0 => {
                self.of(Some(vec![n, Dim::Fixed(c / (b * b)), times(h, b), times(w, b)]))
            }
            c => Err(self.wrong(format!("a multiple of {} channels", b * b), format!("{c:?}"))),
        }
    }

    /// [N, C, H, W] to [N, C b², H / b, W / b].
    fn space_to_depth(&self) -> Result<Info, OnnxError> {
        let Some((b, [n, c, h, w])) = self.blocks()? else { return self.of(None) };
        match (h, w) {
            (Dim::Fixed(h), Dim::Fixed(w)) if h % b == 0 && w % b == 0 => {
                let (h, w) = (Dim::Fixed(h / b), Dim::Fixed(w / b));
                self.of(Some(vec![n, times(c, b * b), h, w]))
            }
            _ => Err(self.wrong(format!("sizes in multiples of {b}"), format!("{h:?}, {w:?}"))),
        }
    }

    /// The size of a block and the four axes around it, all but the first fixed.
    fn blocks(&self) -> Result<Option<(usize, [Dim; 4])>, OnnxError> {
        let size = self.node.int("blocksize").unwrap_or(0);
        let b = usize::try_from(size).ok().filter(|b| (1..=256).contains(b));
        let b = b.ok_or_else(|| self.wrong("a blocksize of 1 to 256", size))?;
        let Some(dims) = self.dims(0)? else { return Ok(None) };
        match <[Dim; 4]>::try_from(dims) {
            Ok(dims) if !dims.iter().skip(1).any(|d| *d == Dim::Batch) => Ok(Some((b, dims))),
            Ok(_) => Ok(None),
            Err(_) => Err(self.wrong("an input of 4 axes", format!("{dims:?}"))),
        }
    }
}

fn times(dim: Dim, factor: usize) -> Dim {
    match dim {
        Dim::Fixed(n) => Dim::Fixed(n.saturating_mul(factor)),
        Dim::Batch => Dim::Batch,
    }
}

/// The sizes of spatial axes; an open one counts as 1.
pub(super) fn known(spatial: &[Dim]) -> Vec<i64> {
    spatial.iter().map(|d| i64::try_from(d.at(1)).unwrap_or(i64::MAX >> 20)).collect()
}

fn kernel_of(sizes: &[usize]) -> Vec<i64> {
    sizes.iter().skip(2).map(|n| i64::try_from(*n).unwrap_or(i64::MAX)).collect()
}
