//! Where the store is: flags shared by operator and uploader.

use std::path::PathBuf;

/// The store's flags; the environment variable of each is `KINORA_` and its name in upper case.
#[derive(Debug, Clone, clap::Args)]
pub struct StoreArgs {
    /// URL of the S3 endpoint for own calls, http(s)://host[:port].
    #[arg(long, env = "KINORA_STORE_ENDPOINT", value_name = "URL")]
    pub store_endpoint: String,

    /// URL of the S3 endpoint in presigned URLs, as workers and services reach it [default: the store endpoint].
    #[arg(long, env = "KINORA_STORE_PRESIGN_ENDPOINT", value_name = "URL")]
    pub store_presign_endpoint: Option<String>,

    /// Bucket that holds everything of this cell; it must exist.
    #[arg(long, env = "KINORA_STORE_BUCKET", value_name = "NAME")]
    pub store_bucket: String,

    /// Region that requests are signed for.
    #[arg(
        long,
        env = "KINORA_STORE_REGION",
        value_name = "REGION",
        default_value = "us-east-1"
    )]
    pub store_region: String,

    /// Directory with the files access-key-id, secret-access-key and, optionally, session-token; read again on change.
    #[arg(long, env = "KINORA_STORE_CREDENTIALS_DIR", value_name = "DIR")]
    pub store_credentials_dir: PathBuf,

    /// PEM file of the authority that signed the store's TLS certificate, read again on change [default: the public authorities, built in].
    #[arg(long, env = "KINORA_STORE_CA_FILE", value_name = "FILE")]
    pub store_ca_file: Option<PathBuf>,

    /// Longest time of one call to the store, in seconds; parts and Complete get twice as long.
    #[arg(long, env = "KINORA_STORE_TIMEOUT_SECONDS", value_name = "SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..=600))]
    pub store_timeout_seconds: u64,
}

impl StoreArgs {
    /// The flags that have no default, and the defaults of the others.
    #[must_use]
    pub fn new(
        endpoint: impl Into<String>,
        bucket: impl Into<String>,
        credentials_dir: impl Into<PathBuf>,
    ) -> Self {
        Self {
            store_endpoint: endpoint.into(),
            store_presign_endpoint: None,
            store_bucket: bucket.into(),
            store_region: "us-east-1".to_owned(),
            store_credentials_dir: credentials_dir.into(),
            store_ca_file: None,
            store_timeout_seconds: 30,
        }
    }
}
