<?php
// Prints a token's type, generation and seconds left, or why there is none. Arguments: TARGET INSTALL.
declare(strict_types=1);

require __DIR__ . '/vendor/autoload.php';

use Google\Rpc\ErrorInfo;
use Google\Rpc\Status;
use Grpc\ChannelCredentials;
use Tokenbroker\V1\GetTokenRequest;
use Tokenbroker\V1\TokenBrokerClient;

const DEADLINE_MICROSECONDS = 30_000_000;

/** The broker's ErrorReason, or gRPC's message where the broker has not said why. */
function reason_of(stdClass $failure): string
{
    new ErrorInfo(); // only what was made once is known to Any
    $status = new Status();
    $status->mergeFromString($failure->metadata['grpc-status-details-bin'][0] ?? '');
    foreach ($status->getDetails() as $detail) {
        if ($detail->is(ErrorInfo::class)) {
            return $detail->unpack()->getReason();
        }
    }
    return $failure->details;
}

[, $target, $install] = $argv;
$broker = new TokenBrokerClient($target, ['credentials' => ChannelCredentials::createInsecure()]);
$request = (new GetTokenRequest())->setInstallId($install);
[$token, $status] = $broker->GetToken($request, [], ['timeout' => DEADLINE_MICROSECONDS])->wait();
if ($status->code !== Grpc\STATUS_OK) {
    fwrite(STDERR, reason_of($status) . "\n");
    exit(1);
}
echo $token->getTokenType(), ' ', $token->getGeneration(), ' ', $token->getExpiresIn()->getSeconds(), "\n";
