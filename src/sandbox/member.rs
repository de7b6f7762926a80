//! Members of JSON values by name, without a panic: `Value`'s own index operator has one when it is written through.

use serde_json::Value;

pub trait Member {
    /// The member, or null if there is none or this is no object.
    fn at(&self, name: &str) -> &Value;

    /// Sets a member of an object; of anything else it sets nothing.
    fn set(&mut self, name: &str, value: impl Into<Value>);
}

impl Member for Value {
    fn at(&self, name: &str) -> &Value {
        const NULL: &Value = &Value::Null;
        self.get(name).unwrap_or(NULL)
    }

    fn set(&mut self, name: &str, value: impl Into<Value>) {
        if let Some(members) = self.as_object_mut() {
            members.insert(name.to_owned(), value.into());
        }
    }
}
