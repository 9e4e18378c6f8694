//! Which addresses may be reached: those of the public internet, and those that are allowed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// What is not the public internet (the registries of special-purpose addresses), and why.
const RESERVED: [(&str, &str); 32] = [
    ("0.0.0.0/8", "this network"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared by carriers"),
    ("127.0.0.0/8", "loopback"),
    ("168.63.129.16/32", "metadata of a cloud"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved for protocols"),
    ("192.0.2.0/24", "for documentation"),
    ("192.31.196.0/24", "reserved for protocols"),
    ("192.52.193.0/24", "reserved for protocols"),
    ("192.88.99.0/24", "a relay of 6to4"),
    ("192.168.0.0/16", "private"),
    ("192.175.48.0/24", "reserved for protocols"),
    ("198.18.0.0/15", "for benchmarks"),
    ("198.51.100.0/24", "for documentation"),
    ("203.0.113.0/24", "for documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    // Unspecified, loopback and IPv4-compatible.
    ("::/96", "loopback or IPv4 in disguise"),
    ("::ffff:0:0:0/96", "IPv4 in disguise"),
    ("64:ff9b:1::/48", "a translation of a local network"),
    ("100::/64", "discarded"),
    // Teredo, ORCHID and the like.
    ("2001::/23", "reserved for protocols"),
    ("2001:db8::/32", "for documentation"),
    ("2002::/16", "IPv4 in disguise (6to4)"),
    ("3fff::/20", "for documentation"),
    ("5f00::/16", "reserved for protocols"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "private"),
    ("ff00::/8", "multicast"),
];

/// The addresses that may be reached.
#[derive(Debug, Clone)]
pub struct Networks {
    reserved: Vec<(IpNet, &'static str)>,
    allowed: Vec<IpNet>,
}

impl Networks {
    /// The public internet, and `allowed` beside it.
    #[must_use]
    pub fn new(allowed: Vec<IpNet>) -> Self {
        let reserved = RESERVED.iter();
        let reserved = reserved.filter_map(|(net, why)| Some((net.parse().ok()?, *why)));
        Self {
            reserved: reserved.collect(),
            allowed,
        }
    }

    /// Whether an address may be reached.
    ///
    /// # Errors
    /// Why it may not, as a sentence.
    pub fn check(&self, address: IpAddr) -> Result<(), String> {
        let real = undisguised(address);
        let within = |net: &IpNet| net.contains(&address) || net.contains(&real);
        if self.allowed.iter().any(within) {
            return Ok(());
        }
        match self.reserved.iter().find(|(net, _)| within(net)) {
            None => Ok(()),
            Some((_, why)) => Err(format!("{address} may not be reached: it is {why}")),
        }
    }
}

/// The IPv4 address that an IPv6 one stands for: IPv4-mapped, translated (NAT64), ISATAP.
fn undisguised(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    let [a, b, c, d, e, f, ..] = v6.segments();
    let mapped = [a, b, c, d, e, f] == [0, 0, 0, 0, 0, 0xffff];
    let translated = [a, b, c, d, e, f] == [0x64, 0xff9b, 0, 0, 0, 0];
    let isatap = f == 0x5efe && (e == 0 || e == 0x200);
    if mapped || translated || isatap {
        IpAddr::V4(last_four(v6))
    } else {
        address
    }
}

fn last_four(v6: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = v6.octets();
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allowed: &str, address: &str) -> Result<(), String> {
        let allowed = allowed.split(',').filter(|net| !net.is_empty());
        let networks = Networks::new(allowed.map(|net| net.parse().unwrap()).collect());
        assert_eq!(networks.reserved.len(), RESERVED.len());
        networks.check(address.parse().unwrap())
    }

    #[test]
    fn what_is_not_public_is_refused_in_every_disguise() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.0.9",
            "168.63.129.16",
            "169.254.169.254",
            "169.254.170.2",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:7f00:1",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:80ff:fffe",
            "2001:10::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "2a00:1450::5efe:10.0.0.1",
            "2a00:1450::200:5efe:127.0.0.1",
        ] {
            assert!(check("", address).is_err(), "{address}");
        }
    }

    #[test]
    fn the_public_internet_and_what_is_allowed_may_be_reached() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.255.255",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2606:4700::1111",
            "2a00:1450:4001::200e",
        ] {
            assert_eq!(check("", address), Ok(()), "{address}");
        }
        assert_eq!(check("10.1.0.0/16,::1/128", "10.1.2.3"), Ok(()));
        assert_eq!(check("10.1.0.0/16", "::ffff:10.1.2.3"), Ok(()));
        assert_eq!(check("::1/128", "::1"), Ok(()));
        assert!(check("10.1.0.0/16", "10.2.0.1").is_err());
        assert!(check("::1/128", "127.0.0.1").is_err());
    }
}
