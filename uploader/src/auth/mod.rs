//! Who is asking, and whether the credential is good for what is asked. Which upload belongs to
//! whom is the engine's rule (`Principal::may_access`); this folder makes the principal.

mod config;
mod credential;
mod keys;
mod oidc;
mod review;
mod token_keys;
mod tokens;

use std::collections::BTreeSet;

use kinora_storage::UploadId;
use kinora_upload_engine::{Owner, Principal};

pub use config::{AccessConfig, IssuerConfig, ReviewConfig};
pub use credential::Credential;
pub use keys::{ISSUER, Keys, KeysError};
pub use tokens::{MAX_SECONDS as MAX_TOKEN_SECONDS, UploadTokens};

/// Scope that lets a caller upload and see its own videos.
pub const SCOPE_UPLOAD: &str = "kinora:upload";
/// Scope that lets a caller see and change every video of its tenant.
pub const SCOPE_TENANT: &str = "kinora:tenant";
/// Scope that lets a backend ask for upload tokens.
pub const SCOPE_DELEGATE: &str = "kinora:delegate";
/// Scope that lets a caller erase videos for good.
pub const SCOPE_ERASE: &str = "kinora:erase";

/// All scopes there are.
pub const SCOPES: [&str; 4] = [SCOPE_UPLOAD, SCOPE_TENANT, SCOPE_DELEGATE, SCOPE_ERASE];

/// What a request is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make a new upload.
    Create,
    /// Ask for the offset, append bytes, or end an upload.
    Write,
    /// Read where a video stands.
    Status,
    /// Read a list of videos.
    List,
    /// Cancel a video.
    Cancel,
    /// Erase a video and what it left.
    Erase,
    /// Ask for an upload token.
    Delegate,
}

impl Action {
    /// The scope that is needed; one of the tenant does for uploading too.
    fn scope(self) -> &'static str {
        match self {
            Self::Create | Self::Write | Self::Status | Self::List | Self::Cancel => SCOPE_UPLOAD,
            Self::Erase => SCOPE_ERASE,
            Self::Delegate => SCOPE_DELEGATE,
        }
    }
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// No or malformed credentials, unknown key, wrong secret: all look the same.
    Unauthenticated,
    /// A good credential without this scope.
    Forbidden(&'static str),
    /// A good upload token of another upload.
    OtherUpload,
    /// Whoever could prove the credential cannot be asked.
    Unavailable(&'static str),
}

/// The time by the store's clock, by which upload tokens are made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Unix seconds.
    pub seconds: u64,
    /// Whether it is too far from the local clock to be believed.
    pub is_off: bool,
}

/// What a credential proved: enough for everything that its request does, so that the credential itself can go.
#[derive(Debug)]
pub struct Proof(Proved);

#[derive(Debug)]
enum Proved {
    Caller(Caller),
    Upload(tokens::Grant),
}

impl Proof {
    /// The caller of a request that does `action`, on the upload or video `id` when it names one.
    ///
    /// # Errors
    /// When what was proved is not good for that.
    pub fn permits(&self, action: Action, id: Option<&UploadId>) -> Result<Principal, Denied> {
        match &self.0 {
            Proved::Caller(caller) => caller.for_action(action),
            Proved::Upload(grant) => grant.for_action(action, id),
        }
    }
}

/// Whom a credential stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Caller {
    owner: Owner,
    tenant: String,
    scopes: BTreeSet<String>,
}

impl Caller {
    fn anonymous() -> Self {
        Self {
            owner: Owner {
                iss: "none".into(),
                sub: "anonymous".into(),
            },
            tenant: "anonymous".into(),
            scopes: SCOPES.map(str::to_owned).into(),
        }
    }

    fn for_action(&self, action: Action) -> Result<Principal, Denied> {
        let scope = action.scope();
        let tenant_wide = self.scopes.contains(SCOPE_TENANT);
        let implied = scope == SCOPE_UPLOAD && tenant_wide;
        if !implied && !self.scopes.contains(scope) {
            return Err(Denied::Forbidden(scope));
        }
        Ok(Principal {
            owner: self.owner.clone(),
            tenant: self.tenant.clone(),
            tenant_wide,
        })
    }
}

/// The authenticator: every way in that is configured.
#[derive(Clone, Debug, Default)]
pub struct Auth {
    anonymous: bool,
    keys: Option<Keys>,
    issuers: oidc::Issuers,
    reviews: Option<review::Reviews>,
    tokens: Option<UploadTokens>,
}

impl Auth {
    /// Everybody is the same anonymous owner. Development only.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            anonymous: true,
            ..Self::default()
        }
    }

    /// API keys only.
    #[must_use]
    pub fn of_keys(keys: Keys) -> Self {
        Self {
            keys: Some(keys),
            ..Self::default()
        }
    }

    /// Lets in the tokens of issuers.
    ///
    /// # Errors
    /// When an issuer cannot be asked with what is configured.
    pub fn with_issuers(
        mut self,
        issuers: Vec<config::IssuerConfig>,
        insecure: bool,
    ) -> Result<Self, String> {
        self.issuers = oidc::Issuers::new(issuers, insecure)?;
        Ok(self)
    }

    /// Lets in ServiceAccounts.
    #[must_use]
    pub fn with_reviews(mut self, client: kube::Client, config: config::ReviewConfig) -> Self {
        self.reviews = Some(review::Reviews::new(client, config));
        self
    }

    /// Lets in, and hands out, upload tokens.
    #[must_use]
    pub fn with_tokens(mut self, tokens: UploadTokens) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// The upload tokens, when they are configured.
    #[must_use]
    pub fn tokens(&self) -> Option<&UploadTokens> {
        self.tokens.as_ref()
    }

    /// The API keys, when there are any.
    #[must_use]
    pub fn keys(&self) -> Option<&Keys> {
        self.keys.as_ref()
    }

    /// What a request's credential proves; it is wiped at the end.
    ///
    /// # Errors
    /// When the request is not to be let in.
    pub async fn prove(&self, credential: Option<Credential>, now: Now) -> Result<Proof, Denied> {
        if self.anonymous {
            return Ok(Proof(Proved::Caller(Caller::anonymous())));
        }
        let credential = credential.ok_or(Denied::Unauthenticated)?;
        let token = credential.token();
        let proved = if token.starts_with(tokens::PREFIX) {
            let tokens = self.tokens.as_ref().ok_or(Denied::Unauthenticated)?;
            Proved::Upload(tokens.check(token, now)?)
        } else {
            Proved::Caller(self.caller(token).await?)
        };
        Ok(Proof(proved))
    }

    /// Whom a credential stands for; its form tells who can prove it.
    async fn caller(&self, token: &str) -> Result<Caller, Denied> {
        if oidc::is_jwt(token) {
            if self.issuers.know(token) {
                return self.issuers.check(token).await;
            }
            if let Some(reviews) = &self.reviews {
                return reviews.check(token).await;
            }
        }
        let keys = self.keys.as_ref().ok_or(Denied::Unauthenticated)?;
        keys.check(token)
    }
}
