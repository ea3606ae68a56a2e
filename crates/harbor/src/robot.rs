//! Robots: accounts for machines, with a secret, an end and rights by project.
//!
//! The name of a robot is the one that Harbor gives back: its prefix is a setting of Harbor's, so a name is
//! kept, and never taken apart. Everything that is done to a robot later goes by its id.

pub(crate) mod expiry;
pub(crate) mod name;
pub(crate) mod permission;

use std::fmt;

use http::Method;
use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::expiry::{Expiry, Lifetime};
use self::name::RobotName;
use self::permission::Permissions;
use crate::client::{Client, segment};
use crate::error::{Error, ErrorKind};
use crate::send::Call;

/// Harbor's number of a robot: never used twice, unlike a name, which is free again after a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RobotId(pub i64);

impl fmt::Display for RobotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A robot to make, at system level: such a robot can have rights on several projects.
#[derive(Clone, Debug)]
pub struct NewRobot {
    /// Its name without a prefix.
    pub name: RobotName,
    /// How long it is to live.
    pub lifetime: Lifetime,
    /// What people read beside it.
    pub description: String,
    /// Its rights; empty ones are refused.
    pub permissions: Permissions,
}

/// A robot that was just made: the only time that its secret is told.
#[derive(Clone, Debug, Deserialize)]
pub struct CreatedRobot {
    /// Its id.
    pub id: RobotId,
    /// Its full name: the user name to log in with.
    pub name: String,
    /// Its secret.
    pub secret: SecretString,
    /// When it was made, by Harbor's clock.
    #[serde(rename = "creation_time")]
    pub created_at: Timestamp,
    /// When it ends.
    #[serde(rename = "expires_at")]
    pub expiry: Expiry,
}

/// A robot as Harbor shows it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Robot {
    /// Its id.
    pub id: RobotId,
    /// Its full name.
    pub name: String,
    /// `system` or `project`.
    pub level: String,
    /// What people read beside it.
    #[serde(default)]
    pub description: String,
    /// Whether it is shut out for now.
    #[serde(default, rename = "disable")]
    pub disabled: bool,
    /// For how long it was made, counted from its creation.
    #[serde(rename = "duration")]
    pub lifetime: Lifetime,
    /// When it was made, by Harbor's clock.
    #[serde(rename = "creation_time")]
    pub created_at: Timestamp,
    /// When it ends.
    #[serde(rename = "expires_at")]
    pub expiry: Expiry,
    /// Its rights.
    #[serde(default)]
    pub permissions: Permissions,
    #[serde(default)]
    creator_type: String,
}

impl Robot {
    /// Whether a robot made it. Asked of one that our own login made, it tells what that login is: a robot may make and
    /// delete robots, and not change them.
    pub fn made_by_robot(&self) -> bool {
        self.creator_type == "robot"
    }
}

#[derive(Deserialize)]
struct Refreshed {
    #[serde(default)]
    secret: Option<SecretString>,
}

impl Client {
    /// Makes a robot. Not repeated where it may have happened: its secret would be lost, and the second try a 409. After
    /// [`Error::may_have_happened`] it is looked for by name, deleted and made again.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] where the name is taken; [`ErrorKind::NotFound`] where a project does not exist (no robot is left
    /// behind then); [`ErrorKind::Forbidden`] where our login may not make robots, or not with these rights.
    pub async fn create_robot(&self, robot: &NewRobot) -> Result<CreatedRobot, Error> {
        let operation = format!("create robot {}", robot.name);
        if robot.permissions.is_empty() {
            return Err(self.error(&operation, ErrorKind::Input("a robot needs permissions".to_owned())));
        }
        let body = json!({
            "name": robot.name.as_str(),
            "level": "system",
            "duration": robot.lifetime,
            "description": robot.description,
            "permissions": robot.permissions,
        });
        self.json(&Call::api(&operation, Method::POST, "/robots").body(&body)).await
    }

    /// The robot of system level with this name (without prefix), if there is one.
    pub async fn find_robot(&self, name: &RobotName) -> Result<Option<Robot>, Error> {
        let operation = format!("find robot {name}");
        let path = format!("/robots?q={}", segment(&format!("name={name}")));
        let mut found = self.list(&operation, &path, |robot: &Robot| robot.id.0).await?;
        match found.len() {
            0 | 1 => Ok(found.pop()),
            n => Err(self.error(&operation, ErrorKind::Malformed(format!("{n} robots have one name")))),
        }
    }

    /// The robot with this id.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is none.
    pub async fn robot(&self, id: RobotId) -> Result<Robot, Error> {
        let operation = format!("get robot {id}");
        self.json(&Call::api(&operation, Method::GET, &format!("/robots/{id}"))).await
    }

    /// All robots of system level, a hundred by each request.
    pub async fn robots(&self) -> Result<Vec<Robot>, Error> {
        self.list("list the robots", "/robots", |robot: &Robot| robot.id.0).await
    }

    /// Gives a robot, as it was just read, other rights. All else stays, its end included.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`] where our login is itself a robot: such may make and delete robots, but not change them.
    pub async fn replace_permissions(&self, robot: &Robot, permissions: &Permissions) -> Result<(), Error> {
        self.put_robot(
            &format!("replace the permissions of {}", robot.name),
            robot,
            robot.lifetime,
            permissions,
        )
        .await
    }

    /// Gives a robot, as it was just read, another lifetime. Harbor counts it from the creation: it may end the robot at once,
    /// and revives one that has expired. See [`Lifetime::until`] for the duration that reaches a moment.
    ///
    /// # Errors
    /// As [`Client::replace_permissions`].
    pub async fn set_lifetime(&self, robot: &Robot, lifetime: Lifetime) -> Result<(), Error> {
        self.put_robot(&format!("set the duration of {}", robot.name), robot, lifetime, &robot.permissions)
            .await
    }

    /// The whole robot goes with every change: what is left out would be emptied, and name and level must be those that it has.
    async fn put_robot(
        &self,
        operation: &str,
        robot: &Robot,
        lifetime: Lifetime,
        permissions: &Permissions,
    ) -> Result<(), Error> {
        if permissions.is_empty() {
            return Err(self.error(operation, ErrorKind::Input("a robot needs permissions".to_owned())));
        }
        let body = json!({
            "id": robot.id,
            "name": robot.name,
            "level": robot.level,
            "duration": lifetime,
            "description": robot.description,
            "disable": robot.disabled,
            "permissions": permissions,
        });
        let path = format!("/robots/{}", robot.id);
        self.send(&Call::api(operation, Method::PUT, &path).body(&body)).await.map(drop)
    }

    /// Gives the robot a new secret that Harbor draws; the former is refused from now on, and its end stays where it is. Not
    /// repeated where it may have happened.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`] where our login is itself a robot.
    pub async fn refresh_secret(&self, id: RobotId) -> Result<SecretString, Error> {
        let operation = format!("refresh the secret of robot {id}");
        let call =
            Call::api(&operation, Method::PATCH, &format!("/robots/{id}")).body(&json!({ "secret": "" }));
        let answer: Refreshed = self.json(&call).await?;
        let missing = || self.error(&operation, ErrorKind::Malformed("no secret came".to_owned()));
        answer.secret.ok_or_else(missing)
    }

    /// Deletes a robot; `false` when it was gone. Tokens that Harbor issued to it before work on for up to 30 minutes.
    pub async fn delete_robot(&self, id: RobotId) -> Result<bool, Error> {
        self.delete(&format!("delete robot {id}"), &format!("/robots/{id}")).await
    }
}
