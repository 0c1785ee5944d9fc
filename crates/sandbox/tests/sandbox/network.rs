//! Sockets.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use rustix::io::FdFlags;
use tidemill_sandbox::{Level, Measure, Profile, State};

use crate::child::{Place, command, finish, run};

fn strict() -> Profile {
    Profile {
        level: Level::Strict,
        ..Profile::default()
    }
}

const SOCKETS: &str = r#"
import asyncio
attempt("tcp", socket.socket, socket.AF_INET, socket.SOCK_STREAM)
attempt("udp", socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
attempt("tcp6", socket.socket, socket.AF_INET6, socket.SOCK_STREAM)
attempt("netlink", socket.socket, socket.AF_NETLINK, socket.SOCK_RAW)
attempt("pair", socket.socketpair)
listener = socket.socket(socket.AF_UNIX)
attempt("bind", listener.bind, "other/socket")
attempt("listen", listener.listen)
attempt("connect", socket.socket(socket.AF_UNIX).connect, "other/socket")
attempt("event loop", asyncio.run, asyncio.sleep(0))
"#;

#[test]
fn strictly_there_are_unix_sockets_only() {
    let place = Place::new();
    let ended = run(&strict(), &place.script(SOCKETS));
    if ended.lacks(Measure::Network) {
        return;
    }
    ended.check(
        "tcp EACCES
        udp EACCES
        tcp6 EACCES
        netlink EACCES
        pair ok
        bind ok
        listen ok
        connect ok
        event loop ok",
    );
}

#[test]
fn by_default_there_is_a_network() {
    let place = Place::new();
    let ended = run(
        &place.profile(),
        &place.script(
            r#"
server = socket.socket()
attempt("bind", server.bind, ("127.0.0.1", 0))
attempt("listen", server.listen)
attempt("connect", lambda: socket.create_connection(server.getsockname()))
attempt("udp", socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
"#,
        ),
    );
    ended.check(
        "bind ok
        listen ok
        connect ok
        udp ok",
    );
    assert_eq!(ended.applied.state(Measure::Network), State::NotRequested);
}

#[test]
fn the_connection_to_the_server_stays() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    rustix::io::fcntl_setfd(&theirs, FdFlags::empty()).unwrap();
    let script = format!(
        "connection = socket.socket(fileno={})
connection.sendall(connection.recv(9).upper())",
        theirs.as_raw_fd()
    );
    let child = command(&strict(), &script).spawn().unwrap();
    rustix::io::fcntl_setfd(&theirs, FdFlags::CLOEXEC).unwrap();
    drop(theirs);
    ours.write_all(b"a message").unwrap();
    let mut answer = [0; 9];
    ours.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"A MESSAGE");
    finish(child);
}
