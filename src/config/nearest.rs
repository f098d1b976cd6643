//! Which known name somebody may have meant.
//!
//! Not here: which names there are (`setting`).

/// The known name that is at most `reach` edits away, if there is one.
pub(super) fn nearest(
    name: &str,
    known: impl IntoIterator<Item = String>,
    reach: usize,
) -> Option<String> {
    known
        .into_iter()
        .map(|candidate| (edits(name, &candidate), candidate))
        .filter(|(distance, _)| *distance <= reach)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance, by rows.
fn edits(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, a) in left.chars().enumerate() {
        let mut previous = index.saturating_add(1);
        let mut next = vec![previous];
        for (pair, b) in row.windows(2).zip(&right) {
            let [diagonal, above] = pair else { continue };
            let replaced = diagonal.saturating_add(usize::from(a != *b));
            previous = replaced.min(above.saturating_add(1)).min(previous.saturating_add(1));
            next.push(previous);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
