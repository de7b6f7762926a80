//! Who calls: a secret's digest to a key, in constant time, from memory alone.
