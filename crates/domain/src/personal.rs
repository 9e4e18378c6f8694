//! Personal data: what of an event is dropped, hashed or masked before anybody keeps it.
//!
//! Applying the rules twice is the same as once, so every door applies them to whatever comes.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::value::RawValue;
use sha2::Sha256;

use crate::event::Event;
use crate::json::{Json, Members};
use crate::pattern::TypePattern;

/// What a hashed value begins with; 64 hexadecimal digits follow.
const HASHED: &str = "hmac-sha256:";
/// What a masked value begins with.
const MASKED: &str = "***";
/// Members that hold the address of a client, wherever they stand.
const IP_MEMBERS: [&str; 7] = [
    "ip",
    "$ip",
    "ip_address",
    "ipAddress",
    "client_ip",
    "clientIp",
    "remote_addr",
];

/// What is done with personal data.
#[derive(Clone, Default)]
pub struct PersonalData {
    rules: Vec<Rule>,
    /// What values are hashed with.
    key: Vec<u8>,
    anonymize_ip: bool,
}

#[derive(Debug, Clone)]
struct Rule {
    types: TypePattern,
    part: usize,
    path: Vec<Step>,
    action: Action,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// The member of that name.
    Name(String),
    /// Every member.
    Any,
    /// Every depth, this one included.
    Deep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Drop,
    Hash,
    Mask,
}

/// The objects of an event that rules are about.
const PARTS: [&str; 4] = ["data", "metadata", "context", "properties"];

impl fmt::Debug for PersonalData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PersonalData")
            .field("rules", &self.rules)
            .field("anonymize_ip", &self.anonymize_ip)
            .finish_non_exhaustive()
    }
}

/// What became of a value.
enum Change {
    Same,
    Gone,
    To(String),
}

impl PersonalData {
    /// Reads rules, one a line: the pattern of event types, the path, and `drop`, `hash` or `mask`. Empty
    /// lines and those that begin with `#` are passed over. `key` is what values are hashed with.
    ///
    /// # Errors
    /// A sentence with the number of the line.
    pub fn new(rules: &str, key: Option<&[u8]>, anonymize_ip: bool) -> Result<Self, String> {
        let mut read = Self {
            rules: vec![],
            key: key.unwrap_or_default().to_vec(),
            anonymize_ip,
        };
        for (n, line) in rules.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let rule = rule(line).map_err(|why| format!("line {}: {why}", n + 1))?;
            if rule.action == Action::Hash && read.key.is_empty() {
                return Err(format!("line {}: hash needs a key", n + 1));
            }
            read.rules.push(rule);
        }
        Ok(read)
    }

    /// Whether there is nothing to do with any event.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.rules.is_empty() && !self.anonymize_ip
    }

    /// Does with an event what the rules want; true if that changed it.
    pub fn apply(&self, event: &mut Event) -> bool {
        if self.is_nothing() {
            return false;
        }
        let mut changed = false;
        for rule in &self.rules {
            if rule.types.matches(&event.event_type) {
                let act = |raw: &str| self.act(rule.action, raw);
                changed |= rewrite(part(event, rule.part), &rule.path, &act);
            }
        }
        if self.anonymize_ip {
            for (n, _) in PARTS.iter().enumerate() {
                for name in IP_MEMBERS {
                    let json = part(event, n);
                    if json.as_str().contains(name) {
                        let path = [Step::Deep, Step::Name(name.to_owned())];
                        changed |= rewrite(json, &path, &anonymous);
                    }
                }
            }
        }
        changed
    }

    fn act(&self, action: Action, raw: &str) -> Change {
        let text: Option<String> = serde_json::from_str(raw).ok();
        match action {
            Action::Drop => Change::Gone,
            Action::Hash => match &text {
                Some(text) if is_hashed(text) => Change::Same,
                text => self.hash(text.as_deref().unwrap_or(raw)),
            },
            Action::Mask => match &text {
                Some(text) if text.starts_with(MASKED) => Change::Same,
                Some(text) => {
                    let count = text.chars().count();
                    let shown = if count > 8 { count - 4 } else { count };
                    quoted(MASKED.chars().chain(text.chars().skip(shown)).collect())
                }
                None => quoted(MASKED.to_owned()),
            },
        }
    }

    fn hash(&self, value: &str) -> Change {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else {
            // A key of any length is one; without it nothing is kept.
            return Change::Gone;
        };
        mac.update(value.as_bytes());
        let mut hashed = HASHED.to_owned();
        for byte in mac.finalize().into_bytes() {
            // Writing to memory cannot fail.
            let _ = write!(hashed, "{byte:02x}");
        }
        quoted(hashed)
    }
}

/// Reads a rule.
fn rule(line: &str) -> Result<Rule, String> {
    let (rest, action) = line.rsplit_once(char::is_whitespace).unwrap_or_default();
    let (types, path) = (rest.trim().rsplit_once(char::is_whitespace))
        .ok_or("must be TYPES PATH ACTION, such as ** data.email hash")?;
    let action = match action {
        "drop" => Action::Drop,
        "hash" => Action::Hash,
        "mask" => Action::Mask,
        other => return Err(format!("{other:?} is none of drop, hash and mask")),
    };
    let mut steps = path.split('.');
    let first = steps.next().unwrap_or_default();
    let part = PARTS.iter().position(|name| *name == first);
    let part = part.ok_or_else(|| {
        format!("the path {path} must begin with data, metadata, context or properties")
    })?;
    let step = |name: &str| match name {
        "" => Err(format!("the path {path} has an empty step")),
        "*" => Ok(Step::Any),
        "**" => Ok(Step::Deep),
        name => Ok(Step::Name(name.to_owned())),
    };
    let path_of: Vec<Step> = steps.map(step).collect::<Result<_, _>>()?;
    match path_of.last() {
        None => return Err(format!("the path {path} must name a member of {first}")),
        Some(Step::Deep) => return Err(format!("the path {path} must not end with **")),
        Some(_) => {}
    }
    Ok(Rule {
        types: TypePattern::parse(types.trim())?,
        part,
        path: path_of,
        action,
    })
}

fn part(event: &mut Event, n: usize) -> &mut Json {
    match n {
        0 => &mut event.data,
        1 => &mut event.metadata,
        2 => &mut event.context,
        _ => &mut event.properties,
    }
}

fn rewrite(json: &mut Json, path: &[Step], act: &dyn Fn(&str) -> Change) -> bool {
    if json.is_empty() {
        return false;
    }
    match walk(json.as_str(), path, act) {
        Change::Same => false,
        Change::Gone => std::mem::take(json).is_empty(),
        Change::To(text) => {
            *json = Json::from_stored(text);
            true
        }
    }
}

/// Does it with the values at the path below a value. Arrays are looked through.
fn walk(raw: &str, path: &[Step], act: &dyn Fn(&str) -> Change) -> Change {
    let Some((step, rest)) = path.split_first() else {
        return act(raw);
    };
    if *step == Step::Deep {
        let below = children(raw, |_, value| walk(value, path, act));
        let text = match &below {
            Change::To(text) => text.as_str(),
            _ => raw,
        };
        return match walk(text, rest, act) {
            Change::Same => below,
            changed => changed,
        };
    }
    if raw.starts_with('[') {
        return children(raw, |_, item| walk(item, path, act));
    }
    children(raw, |name, value| match step {
        Step::Name(wanted) if Some(wanted.as_str()) != name => Change::Same,
        _ => walk(value, rest, act),
    })
}

/// Changes the members of an object or the items of an array.
fn children(raw: &str, change: impl Fn(Option<&str>, &str) -> Change) -> Change {
    let mut changed = false;
    let mut keep = |name: Option<&str>, value: &str| match change(name, value) {
        Change::Same => Some(value.to_owned()),
        Change::Gone => {
            changed = true;
            None
        }
        Change::To(text) => {
            changed = true;
            Some(text)
        }
    };
    let (open, parts, close) = if raw.starts_with('{') {
        let members = Members::split(raw).unwrap_or_default();
        let kept = members.iter().filter_map(|(name, value)| {
            let value = keep(Some(name), value.get())?;
            Some(format!("{}:{value}", serde_json::Value::from(name)))
        });
        ('{', kept.collect::<Vec<_>>(), '}')
    } else if raw.starts_with('[') {
        let items: Vec<&RawValue> = serde_json::from_str(raw).unwrap_or_default();
        let kept = items.iter().filter_map(|item| keep(None, item.get()));
        ('[', kept.collect(), ']')
    } else {
        return Change::Same;
    };
    if changed {
        Change::To(format!("{open}{}{close}", parts.join(",")))
    } else {
        Change::Same
    }
}

fn quoted(text: String) -> Change {
    Change::To(serde_json::Value::String(text).to_string())
}

fn is_hashed(text: &str) -> bool {
    let digits = text.strip_prefix(HASHED);
    digits.is_some_and(|rest| rest.len() == 64 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The network of an address: the first 24 bits of IPv4, the first 48 of IPv6.
#[must_use]
pub fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & 0xffff_ff00).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !(u128::MAX >> 48)).into(),
    }
}

fn anonymous(raw: &str) -> Change {
    let text: Option<String> = serde_json::from_str(raw).ok();
    match text.and_then(|text| Some((text.trim().parse::<IpAddr>().ok()?, text))) {
        Some((ip, text)) if network(ip).to_string() != text => quoted(network(ip).to_string()),
        _ => Change::Same,
    }
}

#[cfg(test)]
mod tests;
