//! The ground itself: pods, Services and DNS of the local cluster.

use super::Case;

pub(super) fn cases() -> Vec<Case> {
    Vec::new()
}
