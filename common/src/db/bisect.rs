//! Bisecting a failed batch, so that only the bad item fails.

use super::Conn;

/// Runs `work` on all `items` in a savepoint; where that fails and `blame` says that the items are at fault,
/// runs it on each half, down to single items, which `bad` then answers for. Other errors end the whole.
///
/// # Errors
/// Those that `blame` does not blame on the items, and those of `bad`.
pub fn bisect<I, T, E>(
    conn: &mut Conn,
    items: &[I],
    work: &mut impl FnMut(&mut Conn, &[I]) -> Result<Vec<T>, E>,
    blame: &impl Fn(&E) -> bool,
    bad: &mut impl FnMut(&mut Conn, &I, E) -> Result<T, E>,
) -> Result<Vec<T>, E>
where
    E: From<diesel::result::Error>,
{
    match (conn.transaction(|conn| work(conn, items)), items) {
        (Ok(done), _) => Ok(done),
        (Err(error), [item]) if blame(&error) => Ok(vec![bad(conn, item, error)?]),
        (Err(error), [_, _, ..]) if blame(&error) => {
            let (first, second) = items.split_at(items.len() / 2);
            let mut done = bisect(conn, first, work, blame, bad)?;
            done.extend(bisect(conn, second, work, blame, bad)?);
            Ok(done)
        }
        (Err(error), _) => Err(error),
    }
}
