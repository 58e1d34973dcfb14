//! From flags and files to who may come in and how much each may do; read again while it runs.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::args::{Args, AuthMode};
use crate::auth::{AccessConfig, Auth, Keys, UploadTokens};
use crate::limits::{Limits, Proxies};

const KEYS_EVERY: Duration = Duration::from_secs(5);

/// Who may, and how much.
#[derive(Debug, Default)]
pub struct Access {
    /// Who is let in.
    pub auth: Auth,
    /// How much each may do.
    pub limits: Limits,
    config: AccessConfig,
}

impl From<Auth> for Access {
    fn from(auth: Auth) -> Self {
        Self {
            auth,
            ..Self::default()
        }
    }
}

impl Access {
    /// Reads what the flags name.
    ///
    /// # Errors
    /// What does not fit together, or cannot be read.
    pub fn read(args: &Args) -> Result<Self, String> {
        let config = match &args.access_file {
            Some(path) => AccessConfig::read(path, args.insecure)?,
            None => AccessConfig::default(),
        };
        let mut auth = auth(args, &config)?.with_issuers(config.issuers.clone(), args.insecure)?;
        if let Some(dir) = &args.upload_token_keys_dir {
            auth = auth.with_tokens(UploadTokens::read(dir, Instant::now())?);
        }
        let proxies = Proxies::parse(&config.limits.trusted_proxies)?;
        Ok(Self {
            auth,
            limits: Limits::new(config.limits.clone(), proxies),
            config,
        })
    }

    /// Lets in ServiceAccounts, when they are configured.
    #[must_use]
    pub fn asking(mut self, client: &kube::Client) -> Self {
        if let Some(review) = &self.config.token_review {
            self.auth = self.auth.with_reviews(client.clone(), review.clone());
        }
        self
    }
}

fn auth(args: &Args, config: &AccessConfig) -> Result<Auth, String> {
    let external = !config.issuers.is_empty() || config.token_review.is_some();
    match (args.auth, &args.api_keys_dir) {
        (AuthMode::None, _) if !args.insecure => Err(
            "--auth none lets everybody in and needs --insecure; use --auth apikey with --api-keys-dir"
                .into(),
        ),
        (AuthMode::None, _) => Ok(Auth::anonymous()),
        (AuthMode::Apikey, Some(dir)) => Keys::read(dir).map(Auth::of_keys).map_err(|e| e.to_string()),
        (AuthMode::Apikey, None) => Err(
            "--auth apikey needs --api-keys-dir, the directory where the Secret of keys is mounted"
                .into(),
        ),
        (AuthMode::External, _) if !external => {
            Err("--auth external needs an --access-file with issuers or tokenReview".into())
        }
        (AuthMode::External, _) => Ok(Auth::default()),
    }
}

/// Reads keys again every few seconds, until the end: a mounted Secret changes under its name.
pub async fn reload(auth: Auth, end: CancellationToken) {
    while !end.is_cancelled() {
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(KEYS_EVERY) => {}
        }
        if let Some(Err(error)) = auth.keys().map(Keys::reload) {
            tracing::warn!(%error, "the API keys stay as they were");
        }
        let reloaded = auth.tokens().map(|tokens| tokens.reload(Instant::now()));
        if let Some(Err(problem)) = reloaded {
            tracing::warn!(problem, "the keys of upload tokens stay as they were");
        }
    }
}
