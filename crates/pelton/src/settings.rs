//! Settings of this node: defaults, file, environment, flags.

use crate::{
    cli::{Cli, Format},
    components::Connections,
    exit::Failure,
    output,
};
use pelton_config::settings::{Layers, LogFormat, Settings, load};
use pelton_telemetry::{LogOptions, Options, Started, TraceOptions};
use std::path::PathBuf;

/// What every command knows before it reads its own flags.
pub struct Node {
    file: Option<PathBuf>,
    flags: Vec<(String, String)>,
}

impl Node {
    /// From the flags that all commands share.
    pub fn new(cli: &Cli) -> Node {
        let flags = [("log.format", &cli.log_format), ("log.level", &cli.log_level)];
        let flags = flags.into_iter().filter_map(|(k, v)| Some((k.to_owned(), v.clone()?))).collect();
        Node { file: cli.config.clone(), flags }
    }

    /// The flag that hands the settings file on to a child.
    pub fn file_arguments(&self) -> Vec<String> {
        let file = self.file.iter();
        file.flat_map(|path| ["--config".to_owned(), path.display().to_string()]).collect()
    }

    /// The connections of the settings file, if there is one: what a definition may name.
    ///
    /// # Errors
    /// As [`Node::load`].
    pub fn connections(&self) -> Result<Option<Connections>, Failure> {
        match &self.file {
            Some(_) => Ok(Some(self.load(&[])?.connections("worker.kafka"))),
            None => Ok(None),
        }
    }

    /// The settings, with a command's own flags on top. Flags without a value are left out.
    ///
    /// # Errors
    /// Every unknown key and wrong value, of all layers.
    pub fn load(&self, flags: &[(&str, Option<String>)]) -> Result<Settings, Failure> {
        let text = self.file.as_deref().map(crate::input::of_file).transpose()?;
        let name = self.file.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
        let env: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect();
        let own = flags.iter().filter_map(|(k, v)| Some(((*k).to_owned(), v.clone()?)));
        let flags: Vec<(String, String)> = self.flags.iter().cloned().chain(own).collect();
        let layers = Layers { file: text.as_deref().map(|t| (name.as_str(), t)), env: &env, flags: &flags };
        load(&layers).map_err(|report| Failure::bad(report.to_string()))
    }

    /// `pelton config show`.
    ///
    /// # Errors
    /// As [`Node::load`].
    pub fn show(&self, origin: bool, format: Format) -> Result<(), Failure> {
        let settings = self.load(&[])?;
        let rows = settings.show();
        if matches!(format, Format::Json | Format::Yaml) {
            let map: serde_json::Map<String, serde_json::Value> = rows
                .iter()
                .map(|row| {
                    let value = if origin {
                        serde_json::json!({ "value": row.value, "origin": row.origin.to_string() })
                    } else {
                        row.value.clone().into()
                    };
                    (row.name.clone(), value)
                })
                .collect();
            return output::value(&map.into(), format);
        }
        let header = if origin { vec!["NAME", "VALUE", "ORIGIN"] } else { vec!["NAME", "VALUE", "WHAT"] };
        let rows = rows.iter().map(|row| {
            let last = if origin { row.origin.to_string() } else { row.help.to_owned() };
            vec![row.name.clone(), row.value.clone(), last]
        });
        output::table(&header, rows.collect());
        Ok(())
    }
}

/// Start logs and traces of a role.
///
/// # Errors
/// A log filter or an endpoint that does not parse.
pub fn start_telemetry(settings: &Settings, instance: &str) -> Result<Started, Failure> {
    let format = match settings.log.format {
        LogFormat::Auto => pelton_telemetry::LogFormat::Auto,
        LogFormat::Human => pelton_telemetry::LogFormat::Human,
        LogFormat::Json => pelton_telemetry::LogFormat::Json,
    };
    let options = Options {
        log: LogOptions { format, filter: settings.log.level.clone() },
        trace: TraceOptions {
            endpoint: settings.telemetry.otlp_endpoint.clone(),
            instance: instance.to_owned(),
            ..TraceOptions::default()
        },
    };
    pelton_telemetry::start(&options).map_err(|e| Failure::bad(e.to_string()))
}
