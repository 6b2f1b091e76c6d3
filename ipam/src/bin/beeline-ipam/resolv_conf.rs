//! Resolver settings from a file such as `/etc/resolv.conf` (resolv.conf(5)).

use std::{fs, net::IpAddr, path::Path};

use beeline_cni::{Code, Dns, Failure};

/// Reads the file.
pub(crate) fn read(path: &Path) -> Result<Dns, Failure> {
    let text = fs::read_to_string(path).map_err(|e| {
        let path = path.display();
        Failure::new(Code::IO, format!("cannot read the configuration's `ipam.resolvConf` {path}: {e}"))
    })?;
    Ok(parse(&text))
}

/// What is not known is passed over, as resolvers do.
fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(keyword) = words.next() else { continue };
        let words = words.map(str::to_owned);
        match keyword {
            // Addresses that name an interface mean nothing in another namespace.
            "nameserver" => {
                dns.nameservers.extend(words.take(1).filter_map(|word| word.parse::<IpAddr>().ok()));
            }
            "domain" => dns.domain = words.take(1).last(),
            "search" => dns.search = words.collect(),
            "options" => dns.options.extend(words),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_is_read_and_the_rest_passed_over() {
        let dns = parse(
            "# made by hand\n; really\nnameserver 10.0.0.10\n nameserver fd00::10 # ours\nnameserver fe80::1%eth0\n\ndomain example.org\n\
             search a.example b.example\nsearch c.example\noptions ndots:5\noptions edns0\nsortlist 10.0.0.0\n",
        );
        assert_eq!(
            serde_json::to_value(dns).unwrap(),
            serde_json::json!({
                "nameservers": ["10.0.0.10", "fd00::10"],
                "domain": "example.org",
                "search": ["c.example"],
                "options": ["ndots:5", "edns0"],
            })
        );
    }
}
