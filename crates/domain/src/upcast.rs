//! Upcasters (S3-34): what brings the data of an event from one version of its schema to the next, when
//! it is read. The stored event never changes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use crate::event::Event;
use crate::json::Json;

/// Takes the `data` of one version and returns that of the next, or a sentence about why it cannot.
pub type Upcast = Arc<dyn Fn(Value) -> Result<Value, String> + Send + Sync>;

/// The upcasters of a process, by event type and `schema_version`.
#[derive(Clone, Default)]
pub struct Upcasters(HashMap<String, HashMap<String, (String, Upcast)>>);

impl Upcasters {
    /// Registers the step from one version of a type's schema to the next; chains of steps are walked
    /// to their end.
    ///
    /// # Errors
    /// There is a step from that version already, or the chain would never end.
    pub fn register(
        &mut self,
        event_type: &str,
        from: &str,
        to: &str,
        upcast: Upcast,
    ) -> Result<(), String> {
        let steps = self.0.entry(event_type.to_owned()).or_default();
        if steps.contains_key(from) {
            return Err(format!("{event_type} {from} has an upcaster already"));
        }
        let mut at = to;
        loop {
            if at == from {
                return Err(format!("{event_type} {from} to {to} goes in a circle"));
            }
            match steps.get(at) {
                Some((next, _)) => at = next,
                None => break,
            }
        }
        steps.insert(from.to_owned(), (to.to_owned(), upcast));
        Ok(())
    }

    /// The event in the newest version of its type's schema.
    ///
    /// # Errors
    /// A step refuses the data, or returns what is no object.
    pub fn current<'e>(&self, event: &'e Event) -> Result<Cow<'e, Event>, String> {
        let Some(steps) = self.0.get(&event.event_type) else {
            return Ok(Cow::Borrowed(event));
        };
        let mut current = Cow::Borrowed(event);
        while let Some((to, upcast)) = steps.get(&current.schema_version) {
            let (from, data) = (&current.schema_version, current.data.to_value());
            let failed =
                |message: &str| format!("upcaster {} {from} to {to}: {message}", event.event_type);
            let data = upcast(data).map_err(|message| failed(&message))?;
            if !data.is_object() {
                return Err(failed("the data is no object"));
            }
            let current = current.to_mut();
            current.data = Json::from_stored(data.to_string());
            current.schema_version.clone_from(to);
        }
        Ok(current)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fold::tests::event;

    #[test]
    fn a_chain_is_walked_to_its_end_and_the_event_stays() {
        let mut upcasters = Upcasters::default();
        let rename: Upcast = Arc::new(|mut data| {
            data["total"] = data["sum"].take();
            Ok(data)
        });
        let refuse: Upcast = Arc::new(|_| Err("too old".to_owned()));
        let add = |upcasters: &mut Upcasters, from, to, upcast: &Upcast| {
            upcasters.register("paid", from, to, Arc::clone(upcast))
        };
        add(&mut upcasters, "1.0.0", "2", &rename).unwrap();
        let currency: Upcast = Arc::new(|mut data| {
            data["currency"] = "EUR".into();
            Ok(data)
        });
        add(&mut upcasters, "2", "3", &currency).unwrap();
        add(&mut upcasters, "0", "1.0.0", &refuse).unwrap();
        assert!(add(&mut upcasters, "2", "4", &rename).is_err());
        assert!(add(&mut upcasters, "3", "0", &rename).is_err());

        let old = event(1, "paid", json!({"sum": 7}));
        let new = upcasters.current(&old).unwrap();
        assert_eq!(new.schema_version, "3");
        let data = new.data.to_value();
        assert_eq!(
            (&data["total"], &data["currency"]),
            (&json!(7), &json!("EUR"))
        );
        assert_eq!(old.data.to_value(), json!({"sum": 7}));
        let other = event(2, "refunded", json!({"sum": 7}));
        assert!(matches!(upcasters.current(&other), Ok(Cow::Borrowed(_))));
        let mut ancient = old.clone();
        ancient.schema_version = "0".to_owned();
        let error = upcasters.current(&ancient).unwrap_err();
        assert_eq!(error, "upcaster paid 0 to 1.0.0: too old");
    }
}
