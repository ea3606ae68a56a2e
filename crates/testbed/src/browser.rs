//! Chromium without a screen, driven by its own driver over WebDriver (W3C): JSON over HTTP, of which tests need a dozen
//! requests.

use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::ports::Port;
use crate::process::{Process, wait_for};
use crate::{Error, Result, command, files};

/// How long something may take to appear on a page.
const LIMIT: Duration = Duration::from_secs(20);
/// A browser's start on a busy machine.
const START: Duration = Duration::from_secs(60);
/// The name under which the protocol hands out elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with a profile of its own. It ends with its handle.
#[derive(Debug)]
pub struct Browser {
    http: reqwest::Client,
    session: String,
    _driver: Process,
    _dir: TempDir,
}

/// A cookie as the browser keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Cookie {
    pub name: String,
    pub value: String,
    pub domain: String,
    pub path: String,
    pub secure: bool,
    pub http_only: bool,
    pub same_site: String,
}

impl Browser {
    /// Starts it and waits until it takes commands.
    pub async fn start() -> Result<Self> {
        let chromium = command::need("chromium", "chromium")?;
        let program = command::need("chromedriver", "chromium-driver")?;
        let dir = files::scratch("browser")?;
        let port = Port::reserve()?;
        let mut driver = Command::new(program);
        driver
            .arg(format!("--port={}", port.number()))
            .env("HOME", dir.path())
            .env("TMPDIR", dir.path())
            .current_dir(dir.path());
        let mut driver = Process::spawn("chromedriver", driver, &dir.path().join("driver.log"))?
            .patience(Signal::TERM, Duration::from_secs(5));
        let (http, base) = (crate::registry::http_client(), format!("http://{}", port.address()));
        let status = format!("{base}/status");
        driver
            .ready("the first answer", START, async || {
                http.get(&status).send().await.is_ok_and(|answer| answer.status().is_success())
            })
            .await?;
        let arguments = [
            "--headless=new",
            // Its sandbox needs what containers do not give; it opens pages of the test alone.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-extensions",
            "--no-first-run",
            "--no-proxy-server",
            &format!("--user-data-dir={}", dir.path().join("profile").display()),
        ];
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": {"binary": chromium, "args": arguments},
        }}});
        let opened = exchange(&http, Method::POST, &format!("{base}/session"), Some(&capabilities)).await?;
        let id =
            opened["sessionId"].as_str().ok_or_else(|| Error::Content(format!("no session: {opened}")))?;
        Ok(Self { http, session: format!("{base}/session/{id}"), _driver: driver, _dir: dir })
    }

    async fn command(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        exchange(&self.http, method, &format!("{}{path}", self.session), body.as_ref()).await
    }

    /// Goes to a URL and waits for the page, through all redirects.
    pub async fn open(&self, url: &str) -> Result<()> {
        self.command(Method::POST, "/url", Some(json!({ "url": url }))).await.map(drop)
    }

    /// Where it is.
    pub async fn url(&self) -> Result<String> {
        let url = self.command(Method::GET, "/url", None).await?;
        Ok(url.as_str().unwrap_or_default().to_owned())
    }

    /// An element of the page, as soon as it is there.
    async fn element(&self, selector: &str) -> Result<String> {
        let wanted = json!({"using": "css selector", "value": selector});
        let what = format!("the element {selector}");
        let found = wait_for(&what, LIMIT, async || {
            let found = self.command(Method::POST, "/element", Some(wanted.clone())).await.ok()?;
            found[ELEMENT].as_str().map(str::to_owned)
        });
        match found.await {
            Ok(element) => Ok(element),
            Err(error) => {
                let page = self.page().await.unwrap_or_default();
                Err(Error::Content(format!("{error}; at {}: {page}", self.url().await.unwrap_or_default())))
            }
        }
    }

    /// The text of an element, as soon as it is there.
    pub async fn text(&self, selector: &str) -> Result<String> {
        // A page that is only now replaced takes its elements along: what is asked next is the new one.
        loop {
            let element = self.element(selector).await?;
            match self.command(Method::GET, &format!("/element/{element}/text"), None).await {
                Ok(text) => return Ok(text.as_str().unwrap_or_default().to_owned()),
                Err(error) if is_stale(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Types into a field.
    pub async fn fill(&self, selector: &str, text: &str) -> Result<()> {
        let element = self.element(selector).await?;
        self.command(Method::POST, &format!("/element/{element}/value"), Some(json!({ "text": text })))
            .await
            .map(drop)
    }

    /// Clicks on what leads to another page, and waits until that page has taken the place of this one: the driver's own
    /// answer may come while the form is still on its way.
    pub async fn click(&self, selector: &str) -> Result<()> {
        let element = self.element(selector).await?;
        self.command(Method::POST, &format!("/element/{element}/click"), Some(json!({}))).await?;
        wait_for(&format!("the page after {selector}"), LIMIT, async || {
            let asked = self.command(Method::GET, &format!("/element/{element}/name"), None).await;
            asked.is_err_and(|error| is_stale(&error)).then_some(())
        })
        .await
    }

    /// The page's HTML.
    pub async fn page(&self) -> Result<String> {
        let page = self.command(Method::GET, "/source", None).await?;
        Ok(page.as_str().unwrap_or_default().to_owned())
    }

    /// Runs a script in the page, `return` gives its value; a promise is waited for.
    pub async fn run(&self, script: &str) -> Result<Value> {
        self.command(Method::POST, "/execute/sync", Some(json!({"script": script, "args": []}))).await
    }

    /// The cookies that the page's site has.
    pub async fn cookies(&self) -> Result<Vec<Cookie>> {
        let cookies = self.command(Method::GET, "/cookie", None).await?;
        let text = |cookie: &Value, name: &str| cookie[name].as_str().unwrap_or_default().to_owned();
        Ok(cookies
            .as_array()
            .into_iter()
            .flatten()
            .map(|cookie| Cookie {
                name: text(cookie, "name"),
                value: text(cookie, "value"),
                domain: text(cookie, "domain"),
                path: text(cookie, "path"),
                secure: cookie["secure"] == true,
                http_only: cookie["httpOnly"] == true,
                same_site: text(cookie, "sameSite"),
            })
            .collect())
    }

    /// Forgets the cookies of all sites: the next login is another person's.
    pub async fn forget(&self) -> Result<()> {
        let clear = json!({"cmd": "Network.clearBrowserCookies", "params": {}});
        self.command(Method::POST, "/goog/cdp/execute", Some(clear)).await.map(drop)
    }

    /// Ends the browser in good order.
    pub async fn close(self) -> Result<()> {
        self.command(Method::DELETE, "", None).await.map(drop)
    }
}

/// Whether an element went away with its page (WebDriver, section 12.2: "stale element reference", "no such element").
fn is_stale(error: &Error) -> bool {
    matches!(error, Error::Answer { status: 404, body, .. }
        if body.contains("stale element") || body.contains("no such element"))
}

async fn exchange(http: &reqwest::Client, method: Method, url: &str, body: Option<&Value>) -> Result<Value> {
    let failed = |source| Error::Request { method: method.to_string(), url: url.to_owned(), source };
    let mut request = http.request(method.clone(), url).timeout(START);
    if let Some(body) = body {
        request = request.json(body);
    }
    let answer = request.send().await.map_err(failed)?;
    let status = answer.status();
    let mut content: Value = answer.json().await.map_err(failed)?;
    if status.is_success() {
        return Ok(content["value"].take());
    }
    let body = content["value"]["message"].to_string().chars().take(500).collect();
    Err(Error::Answer { method: method.to_string(), url: url.to_owned(), status: status.as_u16(), body })
}
