// Prints a token's type, generation and seconds left, or why there is none. Arguments: TARGET INSTALL.
using Google.Rpc;
using Grpc.Core;
using Grpc.Net.Client;
using Tokenbroker.V1;

var (target, install) = (args[0], args[1]);
var timeLimit = TimeSpan.FromSeconds(30);

using var channel = GrpcChannel.ForAddress($"http://{target}");
var broker = new TokenBroker.TokenBrokerClient(channel);
try
{
    var request = new GetTokenRequest { InstallId = install };
    var token = await broker.GetTokenAsync(request, deadline: DateTime.UtcNow + timeLimit);
    Console.WriteLine($"{token.TokenType} {token.Generation} {token.ExpiresIn.Seconds}");
    return 0;
}
catch (RpcException failure)
{
    Console.Error.WriteLine(ReasonOf(failure));
    return 1;
}

// The broker's ErrorReason, or gRPC's code where the broker has not said why.
static string ReasonOf(RpcException failure) =>
    failure.GetRpcStatus()?.GetDetail<ErrorInfo>()?.Reason ?? failure.StatusCode.ToString();
