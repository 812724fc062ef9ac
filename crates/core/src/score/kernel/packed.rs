//! An affine layer laid out for the product: in flow weight and bias, out flow panels read from front to back.
//!
//! Letters: I inputs, O outputs, L numbers of a vector. A panel holds 2 L columns, input after input, so that one input
//! of it is two vectors beside each other. Columns that fill no panel are one panel of L columns. One or two more than a
//! multiple of 16 stand alone: a histogram of 64 bins and a location are 65 columns, and a panel for the last would cost as
//! much as 16. Invariant: columns beyond O are zero, in weight and bias alike.

/// Bytes of a cache line: a vector that straddles two costs two loads.
const LINE_BYTES: usize = 64;
/// Columns without a panel at most.
const SINGLE_COLUMNS_MAX: usize = 2;
/// Columns stand alone if they are left over of groups of this many, whatever the width of a vector: they are summed in another
/// order than panels are, so that the choice must not depend on it.
pub(super) const SINGLES_BESIDE: usize = 16;

/// Numbers that begin at a cache line.
#[derive(Debug, Default)]
pub(super) struct Aligned {
    data: Vec<f32>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// A copy of `numbers`.
    pub fn new(numbers: &[f32]) -> Self {
        let spare = LINE_BYTES / size_of::<f32>();
        let mut data = vec![0f32; numbers.len() + spare];
        let start = data.as_ptr().align_offset(LINE_BYTES).min(spare);
        data[start..start + numbers.len()].copy_from_slice(numbers);
        let len = numbers.len();
        Self { data, start, len }
    }

    /// Zeros.
    pub fn zeros(len: usize) -> Self {
        Self::new(&vec![0f32; len])
    }

    pub fn get(&self) -> &[f32] {
        &self.data[self.start..self.start + self.len]
    }

    pub fn get_mut(&mut self) -> &mut [f32] {
        &mut self.data[self.start..self.start + self.len]
    }
}

/// y = x W + b, ready for vectors of `lanes` numbers.
#[derive(Debug)]
pub(super) struct PackedLinear {
    /// I.
    pub inputs: usize,
    /// O.
    pub outputs: usize,
    /// Numbers between two rows of the result: room for all columns that panels have.
    pub stride: usize,
    /// `[panels, I, 2 L]`.
    pub panels: Aligned,
    /// `[I, L]`, or empty.
    pub half_panel: Aligned,
    /// `[singles, I]`: the last columns, if there are one or two more than panels hold.
    pub single_columns: Aligned,
    /// `[stride]`.
    pub bias: Aligned,
}

impl PackedLinear {
    /// Packs the columns `columns` of `weight`, which has `width` of them, row after row, and of `bias`.
    pub fn new(
        lanes: usize,
        (weight, width): (&[f32], usize),
        bias: &[f32],
        columns: std::ops::Range<usize>,
    ) -> Self {
        let inputs = weight.len() / width.max(1);
        let outputs = columns.len();
        let panel = 2 * lanes;
        let at = |input: usize, column: usize| match column < outputs {
            true => weight[input * width + columns.start + column],
            false => 0.0,
        };
        let singles = match outputs % SINGLES_BESIDE {
            rest @ 1..=SINGLE_COLUMNS_MAX => rest,
            _ => 0,
        };
        let (mut full, rest) = ((outputs - singles) / panel, (outputs - singles) % panel);
        let half = rest > 0 && rest <= lanes;
        if rest > lanes {
            full += 1;
        }
        let pack = |first: usize, wide: usize| {
            (0..inputs).flat_map(move |i| (first..first + wide).map(move |c| at(i, c)))
        };
        let panels: Vec<f32> = (0..full).flat_map(|p| pack(p * panel, panel)).collect();
        let half: Vec<f32> = match half {
            true => pack(full * panel, lanes).collect(),
            false => Vec::new(),
        };
        let alone = outputs - singles..outputs;
        let alone: Vec<f32> = alone.flat_map(|c| pack(c, 1)).collect();
        let stride = outputs.next_multiple_of(panel);
        let mut padded = bias[columns].to_vec();
        padded.resize(stride, 0.0);
        Self {
            inputs,
            outputs,
            stride,
            panels: Aligned::new(&panels),
            half_panel: Aligned::new(&half),
            single_columns: Aligned::new(&alone),
            bias: Aligned::new(&padded),
        }
    }
}
