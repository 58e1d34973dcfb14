//! How much one client may do: by its address before anybody knows who it is, by its owner after.

mod proxies;

pub use proxies::Proxies;
