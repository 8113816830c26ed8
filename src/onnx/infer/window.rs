//! The window that convolutions and pools slide over an image.

use crate::onnx::OnnxError;
use crate::onnx::proto::NodeProto;

/// The largest kernel, stride, dilation and padding along an axis: sums and products of a few fit
/// an i64.
const LARGEST: i64 = 1 << 16;

/// How a window slides along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Elements that the window looks at.
    pub kernel: i64,
    /// From one window to the next.
    pub stride: i64,
    /// From one element of the window to the next.
    pub dilation: i64,
    /// Padding before the axis.
    pub before: i64,
    /// Padding after it.
    pub after: i64,
}

impl Reach {
    /// From the first element of a window to behind its last.
    pub fn span(&self) -> i64 {
        (self.kernel - 1) * self.dilation + 1
    }

    /// How many windows fit an axis of `size` with its padding; below 1 when none does.
    pub fn count(&self, size: i64) -> i64 {
        (size + self.before + self.after - self.span()).div_euclid(self.stride) + 1
    }

    /// As [`Self::count`], with a last window that hangs over the end as long as it starts within
    /// the axis or the padding before it.
    pub fn count_over(&self, size: i64) -> i64 {
        let room = size + self.before + self.after - self.span();
        let count = (room + self.stride - 1).div_euclid(self.stride) + 1;
        if (count - 1) * self.stride >= size + self.before { count - 1 } else { count }
    }

    /// The padding after the axis, and the size added to it, with which `count` windows spread back
    /// cover exactly `size` elements: one of the two is 0.
    pub fn back(&self, size: i64, count: i64) -> (i64, i64) {
        let over = (count - 1) * self.stride + self.span() - self.before - size;
        (over.max(0), (-over).max(0))
    }
}

/// The window of a Conv, ConvTranspose or pool of this kernel along each spatial axis. `sizes` are
/// those of the image; only `auto_pad` depends on them.
///
/// # Errors
/// When an attribute has the wrong length or a value that no window has.
pub(crate) fn window(
    node: &NodeProto,
    kernel: &[i64],
    sizes: &[i64],
) -> Result<Vec<Reach>, OnnxError> {
    let rank = kernel.len();
    let wrong = |expected: String, found: String| {
        OnnxError::invalid(format!("node `{}` ({})", node.label(), node.op()), expected, found)
    };
    let list = |name: &str, count: usize, default: i64, least: i64| {
        let values = match node.ints(name) {
            Some(values) if !values.is_empty() => values.to_vec(),
            _ => vec![default; count],
        };
        if values.len() == count && values.iter().all(|v| (least..=LARGEST).contains(v)) {
            Ok(values)
        } else {
            let expected = format!("{count} {name} of {least} to {LARGEST}");
            Err(wrong(expected, format!("{values:?}")))
        }
    };
    if !kernel.iter().all(|k| (1..=LARGEST).contains(k)) || sizes.len() != rank {
        let expected = format!("a kernel of 1 to {LARGEST} along {} axes", sizes.len());
        return Err(wrong(expected, format!("{kernel:?}")));
    }
    let (strides, dilations) = (list("strides", rank, 1, 1)?, list("dilations", rank, 1, 1)?);
    let pads = list("pads", 2 * rank, 0, 0)?;
    let (before, after) = pads.split_at(rank);
    let auto = node.string("auto_pad").unwrap_or("NOTSET");
    let mut window = Vec::with_capacity(rank);
    let steps = strides.iter().zip(&dilations).zip(before.iter().zip(after));
    for ((kernel, size), ((stride, dilation), (before, after))) in
        kernel.iter().zip(sizes).zip(steps)
    {
        let (kernel, stride, dilation) = (*kernel, *stride, *dilation);
        let bare = Reach { kernel, stride, dilation, before: 0, after: 0 };
        // As many windows as strides fit the axis, the padding shared out evenly.
        let count = (size + stride - 1).div_euclid(stride);
        let same = ((count - 1) * stride + bare.span() - size).max(0);
        let (before, after) = match auto {
            "NOTSET" => (*before, *after),
            "VALID" => (0, 0),
            "SAME_UPPER" => (same / 2, same - same / 2),
            "SAME_LOWER" => (same - same / 2, same / 2),
            _ => {
                let expected = "auto_pad NOTSET, VALID, SAME_UPPER or SAME_LOWER";
                return Err(wrong(expected.into(), auto.into()));
            }
        };
        window.push(Reach { before, after, ..bare });
    }
    Ok(window)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::AttributeProto;

    fn reach(attributes: Vec<AttributeProto>, kernel: i64, size: i64) -> Reach {
        let node = NodeProto { attribute: attributes, ..NodeProto::default() };
        window(&node, &[kernel], &[size]).unwrap()[0]
    }

    #[test]
    fn same_padding_gives_a_window_for_each_stride() {
        for (kernel, stride, dilation, size) in
            [(3, 1, 1, 7), (3, 2, 1, 8), (2, 3, 1, 10), (3, 2, 2, 9), (1, 2, 1, 5)]
        {
            for (name, more_before) in [("SAME_UPPER", false), ("SAME_LOWER", true)] {
                let found = reach(
                    vec![
                        AttributeProto::ints("strides", &[stride]),
                        AttributeProto::ints("dilations", &[dilation]),
                        AttributeProto::string("auto_pad", name),
                    ],
                    kernel,
                    size,
                );
                assert_eq!(found.count(size), (size + stride - 1) / stride, "{found:?}");
                let gap = found.before - found.after;
                assert!(gap == 0 || gap == if more_before { 1 } else { -1 }, "{found:?}");
            }
        }
    }

    #[test]
    fn windows_spread_back_cover_the_axis_exactly() {
        for size in 3..12 {
            for (kernel, stride, dilation, before, after) in
                [(3, 2, 1, 1, 1), (2, 2, 1, 0, 0), (3, 3, 2, 2, 1), (1, 4, 1, 0, 3)]
            {
                let reach = Reach { kernel, stride, dilation, before, after };
                for count in [reach.count(size), reach.count_over(size)] {
                    if count >= 1 {
                        let (cut, added) = reach.back(size, count);
                        let spread = (count - 1) * stride + reach.span() + added - before - cut;
                        assert_eq!((spread, cut * added), (size, 0), "{reach:?} {size}");
                        assert!(added < stride.max(2), "{reach:?} {size}");
                    }
                }
            }
        }
    }
}
