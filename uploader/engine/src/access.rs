//! Who may touch an upload. Every request is checked, not only the create: upload URLs leak.

use serde::{Deserialize, Serialize};

/// The identity that made an upload: issuer (`apikey` for API keys) and subject (the key id).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// Who vouches for the subject.
    pub iss: String,
    /// The subject, unique under its issuer.
    pub sub: String,
}

/// The authenticated caller of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The caller's identity.
    pub owner: Owner,
    /// The tenant the caller belongs to; it comes from the credential, never from the request.
    pub tenant: String,
    /// Whether the caller may open every upload of its tenant (scope `kinora:tenant`).
    pub tenant_wide: bool,
}

impl Principal {
    /// Whether this caller may see and change what `owner` of `tenant` made.
    #[must_use]
    pub fn may_access(&self, owner: &Owner, tenant: &str) -> bool {
        self.tenant == tenant && (self.tenant_wide || self.owner == *owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(sub: &str, tenant: &str, tenant_wide: bool) -> Principal {
        Principal {
            owner: Owner {
                iss: "apikey".into(),
                sub: sub.into(),
            },
            tenant: tenant.into(),
            tenant_wide,
        }
    }

    /// covers: T26, S8
    #[test]
    fn access_is_the_owner_or_the_tenant_scope_within_one_tenant() {
        let owner = Owner {
            iss: "apikey".into(),
            sub: "phone".into(),
        };
        let cases = [
            ("the owner", principal("phone", "acme", false), true),
            (
                "another key of the tenant",
                principal("web", "acme", false),
                false,
            ),
            (
                "another key with the tenant scope",
                principal("web", "acme", true),
                true,
            ),
            (
                "the tenant scope of another tenant",
                principal("web", "rival", true),
                false,
            ),
            (
                "the same key id under another tenant",
                principal("phone", "rival", false),
                false,
            ),
        ];
        for (name, who, want) in cases {
            assert_eq!(who.may_access(&owner, "acme"), want, "{name}");
        }
    }
}
