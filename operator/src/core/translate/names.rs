//! Strings made small: interned names, uids as numbers.

use std::collections::HashMap;
use std::sync::Arc;

use kinora_engine::{PoolName, Symbol, Uid};
use sha2::{Digest, Sha256};

use crate::ports::PoolKey;

/// Names seen so far; a name keeps its symbol for the life of the process. Namespaces, pools and tenants: few.
#[derive(Debug, Default)]
pub(crate) struct Names {
    symbols: HashMap<Arc<str>, Symbol>,
    texts: Vec<Arc<str>>,
}

impl Names {
    /// The symbol of a name.
    pub(crate) fn intern(&mut self, text: &str) -> Symbol {
        if let Some(symbol) = self.symbols.get(text) {
            return *symbol;
        }
        let symbol = Symbol(u32::try_from(self.texts.len()).unwrap_or(u32::MAX));
        let text: Arc<str> = Arc::from(text);
        self.texts.push(text.clone());
        self.symbols.insert(text, symbol);
        symbol
    }

    /// The name behind a symbol.
    pub(crate) fn text(&self, symbol: Symbol) -> Arc<str> {
        usize::try_from(symbol.0)
            .ok()
            .and_then(|index| self.texts.get(index).cloned())
            .unwrap_or_else(|| Arc::from(""))
    }

    /// A pool's name for the engine.
    pub(crate) fn pool(&mut self, key: &PoolKey) -> PoolName {
        PoolName {
            namespace: self.intern(&key.namespace),
            name: self.intern(&key.name),
        }
    }

    /// A pool's name for everybody else.
    pub(crate) fn pool_key(&self, name: PoolName) -> PoolKey {
        PoolKey {
            namespace: self.text(name.namespace).to_string(),
            name: self.text(name.name).to_string(),
        }
    }
}

/// A uid as a number: that of the UUID it is, or a hash of what it is instead.
pub(crate) fn uid_of(text: &str) -> Uid {
    let bytes = text.as_bytes();
    let dashes = [8, 13, 18, 23];
    let is_uuid = bytes.len() == 36 && dashes.iter().all(|at| bytes.get(*at) == Some(&b'-'));
    let hex: String = text.chars().filter(|c| *c != '-').collect();
    if is_uuid
        && hex.len() == 32
        && let Ok(number) = u128::from_str_radix(&hex, 16)
    {
        return Uid(number);
    }
    let digest = Sha256::digest(bytes);
    let number = digest
        .iter()
        .take(16)
        .fold(0u128, |sum, byte| sum << 8 | u128::from(*byte));
    Uid(number)
}

/// The UUID of a number.
pub(crate) fn uid_text(uid: Uid) -> String {
    let hex = format!("{:032x}", uid.0);
    format!(
        "{}-{}-{}-{}-{}",
        &hex[0..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..32]
    )
}
