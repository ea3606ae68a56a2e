//! Which satellites a list is asked for: `?label=env%3Dprod&region=eu&state=online&group=shops&drift=true`.

use axum::extract::FromRequestParts;
use http::request::Parts;
use url::form_urlencoded::{Serializer, parse};

use crate::api::error::ApiError;
use crate::domain::label::Selector;
use crate::domain::satellite::{SatelliteFilter, SatelliteState};

/// What the query string asks for. An empty parameter asks for nothing; `label` may come several times, and all of
/// them have to be met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    chosen: SatelliteFilter,
    /// The same again, for the links to other pages.
    query: String,
}

impl Filter {
    fn parse(query: &str) -> Result<Self, ApiError> {
        let mut labels: Vec<String> = Vec::new();
        let (mut region, mut state, mut group, mut drift) = (None, None, None, None);
        let mut again = Serializer::new(String::new());
        for (name, value) in parse(query.as_bytes()).filter(|(_, value)| !value.is_empty()) {
            let place = match name.as_ref() {
                "label" => {
                    again.append_pair(&name, &value);
                    labels.push(value.into_owned());
                    continue;
                }
                "region" => &mut region,
                "state" => &mut state,
                "group" => &mut group,
                "drift" => &mut drift,
                _ => continue,
            };
            again.append_pair(&name, &value);
            if place.replace(value.into_owned()).is_some() {
                return Err(ApiError::bad_request(format!("{name} is given twice")));
            }
        }
        let selector = match labels.as_slice() {
            [] => None,
            labels => Some(labels.join(",").parse::<Selector>().map_err(ApiError::bad_request)?),
        };
        let state = state
            .map(|text: String| {
                // Deleted ones are in no list.
                text.parse().ok().filter(|state| *state != SatelliteState::Deleted).ok_or_else(|| {
                    ApiError::bad_request(format!(
                        "{text:?} is no state of a satellite: use pending, awaiting_approval, online, stale or revoked"
                    ))
                })
            })
            .transpose()?;
        let drift = drift
            .map(|text: String| {
                text.parse()
                    .map_err(|_| ApiError::bad_request(format!("{text:?} is no drift: use true or false")))
            })
            .transpose()?;
        Ok(Self { chosen: SatelliteFilter { state, group, region, selector, drift }, query: again.finish() })
    }

    /// The path of the list with this filter.
    pub(crate) fn path(&self, path: &str) -> String {
        if self.query.is_empty() { path.to_owned() } else { format!("{path}?{}", self.query) }
    }

    /// The filter of a list that has every state.
    pub(crate) fn chosen(self) -> SatelliteFilter {
        self.chosen
    }

    /// The filter of a list of one state, which the query may not name, too.
    pub(crate) fn in_state(mut self, state: SatelliteState) -> Result<SatelliteFilter, ApiError> {
        match self.chosen.state.replace(state) {
            None => Ok(self.chosen),
            Some(_) => {
                Err(ApiError::bad_request("this list is of one state: ask /api/satellites for another"))
            }
        }
    }

    /// The filter of a list of one group, which the query may not name, too.
    pub(crate) fn in_group(mut self, group: String) -> Result<SatelliteFilter, ApiError> {
        match self.chosen.group.replace(group) {
            None => Ok(self.chosen),
            Some(_) => {
                Err(ApiError::bad_request("this list is of one group: ask /api/satellites for another"))
            }
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Filter {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Self::parse(parts.uri.query().unwrap_or(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read() {
        let filter =
            Filter::parse("page=2&label=env%3Dprod&label=tier+in+(a,b)&region=eu&state=online&group=")
                .unwrap();
        assert_eq!(
            filter.path("/api/satellites"),
            "/api/satellites?label=env%3Dprod&label=tier+in+%28a%2Cb%29&region=eu&state=online"
        );
        let chosen = filter.clone().chosen();
        assert_eq!(
            (chosen.region.as_deref(), chosen.state, &chosen.group),
            (Some("eu"), Some(SatelliteState::Online), &None)
        );
        assert_eq!(chosen.selector.unwrap().requirements().len(), 2);
        assert!(filter.clone().in_state(SatelliteState::Stale).is_err());
        assert_eq!(filter.in_group("shops".into()).unwrap().group.as_deref(), Some("shops"));
        assert_eq!(Filter::parse("page=3").unwrap(), Filter::default());
        for bad in ["label=a%20b", "label=,", "state=gone", "state=deleted", "drift=yes", "region=a&region=b"]
        {
            assert!(Filter::parse(bad).is_err(), "{bad}");
        }
    }
}
