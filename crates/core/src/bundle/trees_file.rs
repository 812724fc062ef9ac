//! `trees.safetensors`: the boosted trees that labels grew. Numbers only, checked before they are used.
//!
//! Tensors: `base` `[1]` f32, `roots` `[T]` u32, and of the M nodes of all trees `value` `[M]` f32 (what decides, or what a
//! leaf adds), `cover` `[M]` f32, `feature`, `left`, `right` `[M]` u32 and `missing_left` `[M]` u8 (0 or 1). A leaf has the
//! feature 4294967295.

use crate::score::{TREE_NODES_MAX, TreeNode, Trees};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

const NAMES: [&str; 8] = [
    "base",
    "roots",
    "value",
    "cover",
    "feature",
    "left",
    "right",
    "missing_left",
];

/// The file's bytes, the same for the same contents.
///
/// # Errors
/// If safetensors cannot write them.
pub fn write(trees: &Trees) -> Result<Vec<u8>, safetensors::SafeTensorError> {
    let (roots, nodes) = trees.parts();
    let floats = |of: fn(&TreeNode) -> f32| -> Vec<u8> {
        nodes.iter().flat_map(|n| of(n).to_le_bytes()).collect()
    };
    let words = |of: fn(&TreeNode) -> u32| -> Vec<u8> {
        nodes.iter().flat_map(|n| of(n).to_le_bytes()).collect()
    };
    let tensors = [
        (NAMES[0], Dtype::F32, trees.base().to_le_bytes().to_vec()),
        (
            NAMES[1],
            Dtype::U32,
            roots.iter().flat_map(|root| root.to_le_bytes()).collect(),
        ),
        (NAMES[2], Dtype::F32, floats(|n| n.value)),
        (NAMES[3], Dtype::F32, floats(|n| n.cover)),
        (NAMES[4], Dtype::U32, words(|n| n.feature)),
        (NAMES[5], Dtype::U32, words(|n| n.left)),
        (NAMES[6], Dtype::U32, words(|n| n.right)),
        (
            NAMES[7],
            Dtype::U8,
            nodes.iter().map(|n| u8::from(n.missing_left)).collect(),
        ),
    ];
    let views = tensors.iter().map(|(name, dtype, data)| {
        let bytes = if *dtype == Dtype::U8 { 1 } else { 4 };
        TensorView::new(*dtype, vec![data.len() / bytes], data).map(|view| (*name, view))
    });
    safetensors::serialize(views.collect::<Result<Vec<_>, _>>()?, None)
}

/// The trees of the file's bytes, for records of `inputs` numbers.
///
/// # Errors
/// What is wrong with them.
pub fn read(file: &[u8], inputs: usize) -> Result<Trees, String> {
    let stored = SafeTensors::deserialize(file).map_err(|e| e.to_string())?;
    let mut names = stored.names().into_iter();
    if let Some(unknown) = names.find(|name| !NAMES.contains(name)) {
        return Err(format!("tensor '{unknown}' is unknown"));
    }
    let length = |name: &str| -> Result<usize, String> {
        let view = stored.tensor(name);
        let view = view.map_err(|_| format!("tensor '{name}' is missing"))?;
        match view.shape() {
            [length] if *length <= TREE_NODES_MAX => Ok(*length),
            shape => Err(format!(
                "tensor '{name}' is {shape:?}, expected at most {TREE_NODES_MAX} numbers"
            )),
        }
    };
    let data = |name: &str, dtype: Dtype, length: usize| {
        let view = stored.tensor(name);
        let view = view.map_err(|_| format!("tensor '{name}' is missing"))?;
        match view.dtype() == dtype && view.shape() == [length] {
            true => Ok(view.data().to_vec()),
            false => {
                let (found, shape) = (view.dtype(), view.shape());
                Err(format!(
                    "tensor '{name}' is {found:?} {shape:?}, expected {dtype:?} [{length}]"
                ))
            }
        }
    };
    let words = |name: &str, dtype: Dtype, length: usize| {
        let data = data(name, dtype, length)?;
        let words = data.as_chunks::<4>().0.iter();
        Ok::<_, String>(
            words
                .map(|word| u32::from_le_bytes(*word))
                .collect::<Vec<_>>(),
        )
    };
    let nodes = length("value")?;
    let base = words("base", Dtype::F32, 1)?;
    let roots = words("roots", Dtype::U32, length("roots")?)?;
    let value = words("value", Dtype::F32, nodes)?;
    let cover = words("cover", Dtype::F32, nodes)?;
    let feature = words("feature", Dtype::U32, nodes)?;
    let left = words("left", Dtype::U32, nodes)?;
    let right = words("right", Dtype::U32, nodes)?;
    let missing_left = data("missing_left", Dtype::U8, nodes)?;
    let node = |at: usize| TreeNode {
        feature: feature[at],
        value: f32::from_bits(value[at]),
        left: left[at],
        right: right[at],
        missing_left: missing_left[at] != 0,
        cover: f32::from_bits(cover[at]),
    };
    if let Some(at) = missing_left.iter().position(|&byte| byte > 1) {
        return Err(format!(
            "tensor 'missing_left' is {} at {at}",
            missing_left[at]
        ));
    }
    let base = base.first().map_or(f32::NAN, |&word| f32::from_bits(word));
    Trees::from_parts(inputs, base, roots, (0..nodes).map(node).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::score::LEAF;

    fn trees() -> Trees {
        let node = |feature, value, left, right| TreeNode {
            feature,
            value,
            left,
            right,
            missing_left: feature == 1,
            cover: 2.0,
        };
        let nodes = vec![
            node(1, 0.5, 1, 2),
            node(LEAF, -1.0, 0, 0),
            node(LEAF, 2.0, 0, 0),
            node(LEAF, 0.25, 0, 0),
        ];
        Trees::from_parts(2, -3.0, vec![0, 3], nodes).unwrap()
    }

    #[test]
    fn what_is_written_is_read_back_exactly() {
        let bytes = write(&trees()).unwrap();
        assert_eq!(bytes, write(&trees()).unwrap());
        assert_eq!(read(&bytes, 2).unwrap(), trees());
    }

    #[test]
    fn trees_of_another_model_are_refused_by_what_they_ask_for() {
        let bytes = write(&trees()).unwrap();
        let error = read(&bytes, 1).unwrap_err();
        assert!(error.contains("node 0 asks for input 1 of 1"), "{error}");
        assert!(read(&bytes[..40], 2).is_err());
    }
}
