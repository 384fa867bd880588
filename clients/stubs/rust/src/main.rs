//! Prints a token's type, generation and seconds left, or why there is none. Arguments: TARGET INSTALL.
use std::{env, error::Error, process::ExitCode, time::Duration};

use tonic::{Request, Status, transport::Endpoint};
use tonic_types::StatusExt;

mod tokenbroker {
    pub mod v1 {
        tonic::include_proto!("tokenbroker.v1");
    }
}
use tokenbroker::v1::{GetTokenRequest, token_broker_client::TokenBrokerClient};

const DEADLINE: Duration = Duration::from_secs(30);

/// The broker's ErrorReason, or gRPC's code where the broker has not said why.
fn reason_of(failure: &Status) -> String {
    match failure.get_details_error_info() {
        Some(info) => info.reason,
        None => format!("{:?}", failure.code()),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let [target, install_id] = env::args()
        .skip(1)
        .collect::<Vec<_>>()
        .try_into()
        .expect("TARGET INSTALL");
    let channel = Endpoint::from_shared(format!("http://{target}"))?.connect_lazy();
    let mut request = Request::new(GetTokenRequest {
        install_id,
        ..Default::default()
    });
    request.set_timeout(DEADLINE);
    match TokenBrokerClient::new(channel).get_token(request).await {
        Ok(answer) => {
            let token = answer.into_inner();
            let seconds_left = token.expires_in.unwrap_or_default().seconds;
            println!("{} {} {seconds_left}", token.token_type, token.generation);
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            eprintln!("{}", reason_of(&failure));
            Ok(ExitCode::FAILURE)
        }
    }
}
