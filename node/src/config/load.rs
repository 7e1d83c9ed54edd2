//! Combines file, environment and flags. Each takes precedence over the one before, and an error names the place where the
//! value was typed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;
use toml::{Table, Value};

use super::settings::{KEYS, Key, Settings};
use super::{NodeConfig, PREFIX, check};

/// The sources of a configuration, in ascending precedence.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Name and content of the file.
    pub file: Option<(String, String)>,
    /// Environment variables. A variable with our prefix that names no section is ignored.
    pub environment: BTreeMap<String, String>,
    /// `section.key` and value, in the order of the command line.
    pub flags: Vec<(String, String)>,
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file is not a valid configuration.
    #[error("{file}, line {line}: {message}")]
    File {
        /// Name of the file.
        file: String,
        /// Counted from 1.
        line: usize,
        /// The fault, with the key.
        message: String,
    },
    /// A variable or a flag has an invalid value.
    #[error("{place}: {message}")]
    Overlay {
        /// The variable or the flag.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// Rules are violated. Each message begins with its key.
    #[error("{}", .0.join("\n"))]
    Rules(Vec<String>),
}

/// A configuration that was read and checked.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the program needs.
    pub config: NodeConfig,
    settings: Settings,
}

impl Sources {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// Names the place of the first invalid value, or else every violated rule.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let mut settings = match &self.file {
            Some((name, text)) => read_file(name, text)?,
            None => Settings::default(),
        };
        for (variable, value) in &self.environment {
            if let Some(key) = key_of_variable(variable)? {
                settings = overlay(&settings, key, value, variable)?;
            }
        }
        let settings = set(settings, &self.flags)?;
        let config = check::check(&settings)?;
        Ok(Loaded { settings: effective(settings, &config), config })
    }
}

fn read_file(name: &str, text: &str) -> Result<Settings, ConfigError> {
    toml::from_str(text).map_err(|wrong| {
        let before = wrong.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        ConfigError::File { file: name.to_owned(), line, message: wrong.message().to_owned() }
    })
}

/// The key that a variable sets; `None` if the variable is not part of the configuration.
fn key_of_variable(variable: &str) -> Result<Option<&'static Key>, ConfigError> {
    let Some(rest) = variable.strip_prefix(PREFIX) else { return Ok(None) };
    if let Some(key) = KEYS.iter().find(|key| key.variable() == variable) {
        return Ok(Some(key));
    }
    let Some((section, _)) = rest.split_once('_') else { return Ok(None) };
    let section = section.to_lowercase();
    // Kubernetes sets ORDERGRID_HTTP_SERVICE_HOST and so on in every pod, if there is a service "ordergrid-http".
    let foreign = variable.contains("_SERVICE_") || variable.ends_with("_PORT") || variable.contains("_PORT_");
    if foreign || !KEYS.iter().any(|key| key.section == section) {
        return Ok(None);
    }
    Err(ConfigError::Overlay { place: variable.to_owned(), message: format!("no such key in [{section}]") })
}

/// `settings` with the keys of the command line replaced.
pub(super) fn set(mut settings: Settings, flags: &[(String, String)]) -> Result<Settings, ConfigError> {
    for (path, value) in flags {
        let place = format!("--set {path}");
        let key = KEYS.iter().find(|key| key.path() == *path);
        let key = key.ok_or_else(|| ConfigError::Overlay { place: place.clone(), message: "no such key".into() })?;
        settings = overlay(&settings, key, value, &place)?;
    }
    Ok(settings)
}

/// `settings` with one key replaced.
fn overlay(settings: &Settings, key: &Key, text: &str, place: &str) -> Result<Settings, ConfigError> {
    let wrong = |message: &str| ConfigError::Overlay { place: place.to_owned(), message: message.to_owned() };
    let table = Table::try_from(settings).map_err(|broken| wrong(&broken.to_string()))?;
    let mut first = None;
    for value in meanings(text) {
        let mut table = table.clone();
        if let Some(Value::Table(section)) = table.get_mut(key.section) {
            section.insert(key.name.to_owned(), value);
        }
        match Settings::deserialize(table) {
            Ok(settings) => return Ok(settings),
            Err(broken) => first = first.or_else(|| Some(wrong(broken.message()))),
        }
    }
    Err(first.unwrap_or_else(|| wrong("cannot be read")))
}

/// The possible values of a text without a type, the most likely first.
fn meanings(text: &str) -> Vec<Value> {
    let integer = text.parse().ok().map(Value::Integer);
    let boolean = text.parse().ok().map(Value::Boolean);
    [integer, boolean, Some(Value::String(text.to_owned()))].into_iter().flatten().collect()
}

/// The typed settings, with derived defaults filled in.
fn effective(mut settings: Settings, config: &NodeConfig) -> Settings {
    settings.node.name = Some(config.name.clone());
    settings.mesh.advertise = Some(config.mesh.advertise.clone());
    settings.http.advertise.clone_from(&config.http.advertise);
    if settings.bootstrap.as_ref().is_some_and(|bootstrap| !bootstrap.nodes.is_empty()) {
        settings.bootstrap = config.bootstrap.as_ref().map(check::typed);
    }
    settings
}

impl Loaded {
    /// The effective configuration as a valid file, with a description of every key.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let table = Table::try_from(&self.settings).expect("settings are a table: they were read from one");
        let mut text = String::new();
        for keys in KEYS.chunk_by(|left, right| left.section == right.section) {
            let section = keys[0].section;
            writeln!(text, "[{section}]").expect("writing to a string cannot fail");
            for key in keys {
                write_key(&mut text, key, table.get(section).and_then(|section| section.get(key.name)));
            }
            text.push('\n');
        }
        if let Some(bootstrap) = table.get("bootstrap") {
            let only = Table::from_iter([("bootstrap".to_owned(), bootstrap.clone())]);
            text.push_str(&only.to_string());
        }
        text
    }

    /// The effective configuration as JSON: the same sections, keys and values.
    ///
    /// # Errors
    /// Never, as far as is known: every setting can be written as JSON.
    pub fn to_json(&self) -> Result<serde_json::Value, serde_json::Error> {
        serde_json::to_value(&self.settings)
    }
}

fn write_key(text: &mut String, key: &Key, value: Option<&Value>) {
    for line in key.about {
        writeln!(text, "#{line}").expect("writing to a string cannot fail");
    }
    match value {
        Some(value) => writeln!(text, "{} = {value}", key.name),
        None => writeln!(text, "# {} =", key.name),
    }
    .expect("writing to a string cannot fail");
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
