// Prints a token's type, generation and seconds left, or why there is none. Arguments: TARGET INSTALL.
#include <chrono>
#include <iostream>
#include <string>

#include <grpcpp/grpcpp.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tokenbroker/v1/token_broker.grpc.pb.h"

using tokenbroker::v1::GetTokenRequest;
using tokenbroker::v1::GetTokenResponse;
using tokenbroker::v1::TokenBroker;

constexpr std::chrono::seconds kDeadline{30};

// The broker's ErrorReason, or gRPC's message where the broker has not said why.
std::string ReasonOf(const grpc::Status& failure) {
  google::rpc::Status status;
  status.ParseFromString(failure.error_details());
  for (const auto& detail : status.details()) {
    google::rpc::ErrorInfo info;
    if (detail.UnpackTo(&info)) return info.reason();
  }
  return failure.error_message();
}

int main(int, char* arguments[]) {
  auto channel = grpc::CreateChannel(arguments[1], grpc::InsecureChannelCredentials());
  auto broker = TokenBroker::NewStub(channel);
  GetTokenRequest request;
  request.set_install_id(arguments[2]);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kDeadline);
  GetTokenResponse token;
  if (auto status = broker->GetToken(&context, request, &token); !status.ok()) {
    std::cerr << ReasonOf(status) << '\n';
    return 1;
  }
  std::cout << token.token_type() << ' ' << token.generation() << ' ' << token.expires_in().seconds() << '\n';
}
