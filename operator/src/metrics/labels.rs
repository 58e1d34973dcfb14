//! The words that labels can have: enums only, so that nothing a job, a worker or a client says becomes a time series.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

/// An enum whose variants are the values of a label.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the words say it, docs/metrics.md explains them")]
        pub enum $name { $($variant),+ }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// As it stands in the label.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
                EncodeLabelValue::encode(&self.word(), encoder)
            }
        }
    };
}

words! {
    /// How a pass of the audit or of the cleaner ended.
    PassEnd { Done = "done", Failed = "failed", Clocks = "clocks" }
}
words! {
    /// What the audit did about an entry of `active/`.
    Entry { Created = "created", Removed = "removed", Unusable = "unusable" }
}
words! {
    /// What a deletion that nobody here asked for was taken for.
    Judged { Cancel = "cancel", Loss = "loss", Nothing = "nothing", Unknown = "unknown" }
}
words! {
    /// What a redrive did about a dead letter.
    Redriven { Done = "done", Skipped = "skipped", Refused = "refused" }
}
words! {
    /// What the cleaner did about a video or a declared job that is due by its day.
    Cleaned { Deleted = "deleted", Held = "held", Left = "left" }
}

macro_rules! label_sets {
    ($($name:ident { $label:ident: $value:ty })+) => {
        $(#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(super) struct $name { pub(super) $label: $value })+
    };
}

label_sets! {
    Pass { outcome: PassEnd }
    OfEntry { outcome: Entry }
    Verdict { verdict: Judged }
    Letter { outcome: Redriven }
    Item { outcome: Cleaned }
}
