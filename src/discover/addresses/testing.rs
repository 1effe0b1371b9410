//! The helper of the tests of addresses.

use std::iter;
use std::time::{Duration, Instant};

/// Whether it holds within a few seconds. A child that another test starts has each socket until it executes its program.
pub fn comes_true(mut is_so: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    iter::repeat_with(&mut is_so)
        .take_while(|_| begun.elapsed() < Duration::from_secs(5))
        .any(|is_so| is_so)
}
