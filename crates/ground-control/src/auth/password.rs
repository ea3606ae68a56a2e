//! What a new password must be like.

use secrecy::{ExposeSecret as _, SecretString};

/// The rules for a password that is being set; one that is being checked needs to fulfil none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordPolicy {
    /// Fewest characters.
    pub min_length: usize,
    /// Most characters; bounds the work of hashing.
    pub max_length: usize,
    /// Whether an upper-case letter is needed.
    pub uppercase: bool,
    /// Whether a lower-case letter is needed.
    pub lowercase: bool,
    /// Whether a digit is needed.
    pub number: bool,
    /// Whether a character is needed that is neither letter nor digit.
    pub special: bool,
}

impl PasswordPolicy {
    /// Checks a password, without ever quoting it.
    ///
    /// # Errors
    /// A sentence for the person, naming every rule that is broken.
    pub fn check(&self, password: &SecretString) -> Result<(), String> {
        let text = password.expose_secret();
        let length = text.chars().count();
        let mut wanted = Vec::new();
        if length < self.min_length {
            wanted.push(format!("at least {} characters", self.min_length));
        }
        if length > self.max_length {
            wanted.push(format!("at most {} characters", self.max_length));
        }
        if self.uppercase && !text.chars().any(char::is_uppercase) {
            wanted.push("an upper-case letter".to_owned());
        }
        if self.lowercase && !text.chars().any(char::is_lowercase) {
            wanted.push("a lower-case letter".to_owned());
        }
        if self.number && !text.chars().any(char::is_numeric) {
            wanted.push("a digit".to_owned());
        }
        if self.special && text.chars().all(char::is_alphanumeric) {
            wanted.push("a character that is neither letter nor digit".to_owned());
        }
        if wanted.is_empty() { Ok(()) } else { Err(format!("the password needs {}", wanted.join(", "))) }
    }

    /// A random password that fulfils every rule: for the first administrator when none was given.
    pub fn generate(&self) -> SecretString {
        // 24 characters of base64 are 144 bits; one of each kind in front fulfils whatever is asked for.
        let random = super::random_token(18);
        let mut text = format!("Aa1-{random}");
        while text.chars().count() < self.min_length {
            text.push_str(&super::random_token(18));
        }
        let text: String = text.chars().take(self.max_length).collect();
        SecretString::from(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELD: PasswordPolicy = PasswordPolicy {
        min_length: 8,
        max_length: 128,
        uppercase: true,
        lowercase: true,
        number: true,
        special: false,
    };

    #[test]
    fn every_broken_rule_is_named() {
        let check = |text: &str| FIELD.check(&SecretString::from(text));
        assert_eq!(check("Harbor12345"), Ok(()));
        assert_eq!(
            check("abc"),
            Err("the password needs at least 8 characters, an upper-case letter, a digit".to_owned())
        );
        assert!(check(&"Aa1".repeat(100)).is_err_and(|e| e.contains("at most 128")));
        let special = PasswordPolicy { special: true, ..FIELD };
        assert!(special.check(&SecretString::from("Harbor12345")).is_err());
        assert_eq!(special.check(&SecretString::from("Harbor-12345")), Ok(()));
    }

    #[test]
    fn generated_passwords_fulfil_the_rules() {
        let strict = PasswordPolicy { min_length: 60, special: true, ..FIELD };
        for policy in [FIELD, strict] {
            assert_eq!(policy.check(&policy.generate()), Ok(()));
        }
    }
}
