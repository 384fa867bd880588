# frozen_string_literal: true

# Prints a token's type, generation and seconds left, or why there is none. Arguments: TARGET INSTALL.
$LOAD_PATH.unshift(File.join(__dir__, 'gen'))
require 'google/protobuf/well_known_types'
require 'google/rpc/error_details_pb'
require 'tokenbroker/v1/token_broker_services_pb'

DEADLINE_SECONDS = 30

# The broker's ErrorReason, or gRPC's message where the broker has not said why.
def reason_of(failure)
  details = failure.to_rpc_status&.details || []
  info = details.filter_map { |detail| detail.unpack(Google::Rpc::ErrorInfo) }.first
  info ? info.reason : failure.details
end

target, install = ARGV
broker = Tokenbroker::V1::TokenBroker::Stub.new(target, :this_channel_is_insecure)
request = Tokenbroker::V1::GetTokenRequest.new(install_id: install)
begin
  token = broker.get_token(request, deadline: Time.now + DEADLINE_SECONDS)
rescue GRPC::BadStatus => e
  abort(reason_of(e))
end
puts "#{token.token_type} #{token.generation} #{token.expires_in.seconds}"
