//! Tokens that people make for programs.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::token::{ApiToken, NewToken, TokenKey};
use crate::{Page, Paged, StoreResult, TokenId, UserId};

/// Tokens that people make for programs. They end with their owner.
#[async_trait]
pub trait Tokens {
    /// Makes a token. `Conflict` where its owner has one of that name, or [`MOST_TOKENS`](crate::token::MOST_TOKENS);
    /// `NotFound` where there is no such owner.
    async fn create_api_token(&self, token: NewToken, now: Timestamp) -> StoreResult<ApiToken>;

    /// Tokens of this account, or of all, by owner and name; those that have ended, too.
    async fn api_tokens(&self, owner: Option<&UserId>, page: Page) -> StoreResult<Paged<ApiToken>>;

    /// A token that has not ended by `now`, and that it is used at `now`: noted at most once a minute.
    async fn use_api_token(&self, key: TokenKey<'_>, now: Timestamp) -> StoreResult<Option<ApiToken>>;

    /// Deletes a token, of this account where one is given. `NotFound` where there is none.
    async fn delete_api_token(&self, id: &TokenId, owner: Option<&UserId>) -> StoreResult<ApiToken>;

    /// Sets a password for somebody else: all sessions of that account end, and its tokens, too, whoever made them.
    async fn reset_password(&self, username: &str, password_hash: &str, now: Timestamp) -> StoreResult<()>;
}
