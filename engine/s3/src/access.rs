//! How a bucket is reached: where it is, who asks, and what makes the requests.

use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client as S3;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Builder, Credentials as Keys, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedCredentialsProvider, StalledStreamProtectionConfig,
};
use backstay_vault::store::Pace;

use crate::connector::Client;

/// A request of which nothing moves for so long is given up; three times as long with contents. Well below the patience with which
/// a vault is asked, so that it is tried again before that ends.
pub(crate) const STALL_MAX: Duration = Duration::from_secs(20);

/// The region where none is configured: that of AWS which any service understands.
const REGION_DEFAULT: &str = "us-east-1";

/// Where a bucket is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub bucket: String,
    /// URL of the service; AWS when absent.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// What all keys begin with: empty, or with a `/` at its end.
    pub prefix: String,
}

/// By what the service knows who asks.
#[derive(Debug, Clone)]
pub struct Credentials(SharedCredentialsProvider);

impl Credentials {
    /// An access key: its identifier and its secret.
    pub fn of_key(id: String, secret: String) -> Self {
        Self(SharedCredentialsProvider::new(Keys::new(id, secret, None, None, "backstay")))
    }

    /// What the environment has: variables, a profile, the metadata of a virtual machine. What there is, is found when it is
    /// needed, and renewed by itself.
    pub async fn of_environment() -> Self {
        let http = Client::new(Arc::new(Pace::unlimited()), STALL_MAX);
        let loaded = aws_config::defaults(BehaviorVersion::latest()).http_client(http).load().await;
        let none = || SharedCredentialsProvider::new(Keys::new("", "", None, None, "none"));
        Self(loaded.credentials_provider().unwrap_or_else(none))
    }
}

/// What makes requests with these credentials.
pub(crate) fn client(place: &Place, credentials: Credentials, pace: &Arc<Pace>, stall: Duration) -> S3 {
    let region = Region::new(place.region.clone().unwrap_or_else(|| REGION_DEFAULT.to_owned()));
    let config = Builder::new()
        .credentials_provider(credentials.0)
        .behavior_version(BehaviorVersion::latest())
        .region(region)
        .http_client(Client::new(Arc::clone(pace), stall))
        // Tries, their pauses and their budget are the store's.
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .force_path_style(place.endpoint.is_some());
    let config = match &place.endpoint {
        Some(endpoint) => config.endpoint_url(endpoint),
        None => config,
    };
    S3::from_conf(config.build())
}
