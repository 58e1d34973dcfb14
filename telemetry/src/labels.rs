//! Words of metric labels.

/// An enum whose variants are the values of a label of `prometheus-client`, which the caller depends on: so that no id, no text
/// of an error and nothing that a client sends ever becomes a time series. docs/metrics.md explains the words.
#[macro_export]
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

        impl ::prometheus_client::encoding::EncodeLabelValue for $name {
            fn encode(
                &self,
                encoder: &mut ::prometheus_client::encoding::LabelValueEncoder,
            ) -> Result<(), std::fmt::Error> {
                ::prometheus_client::encoding::EncodeLabelValue::encode(&self.word(), encoder)
            }
        }
    };
}
