//! Who may call what. Tokens come with a later version; what is here already is the rule that keeps a server without
//! them from being open to the world by accident.

use std::net::SocketAddr;

use crate::run::ServeError;

/// Refuses an address that other machines reach, unless the operator asked for a server without authentication.
pub(crate) fn check_bind_address(bind: SocketAddr, without_auth: bool) -> Result<(), ServeError> {
    if without_auth || bind.ip().is_loopback() {
        Ok(())
    } else {
        Err(ServeError::OpenWithoutAuth { bind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_gets_in_unasked() {
        let check =
            |bind: &str, without_auth| check_bind_address(bind.parse().unwrap(), without_auth).is_ok();
        assert!(check("127.0.0.1:8181", false));
        assert!(check("[::1]:8181", false));
        assert!(!check("0.0.0.0:8181", false));
        assert!(!check("192.0.2.1:8181", false));
        assert!(check("0.0.0.0:8181", true));
    }
}
