import com.google.rpc.ErrorInfo;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.concurrent.TimeUnit;
import tokenbroker.v1.GetTokenRequest;
import tokenbroker.v1.TokenBrokerGrpc;

/** Prints a token's type, generation and seconds left, or why there is none. Arguments: TARGET INSTALL. */
public final class ReadToken {
  private static final int DEADLINE_SECONDS = 30;

  public static void main(String[] arguments) throws Exception {
    var channel = Grpc.newChannelBuilder(arguments[0], InsecureChannelCredentials.create()).build();
    var broker = TokenBrokerGrpc.newBlockingStub(channel).withDeadlineAfter(DEADLINE_SECONDS, TimeUnit.SECONDS);
    try {
      var token = broker.getToken(GetTokenRequest.newBuilder().setInstallId(arguments[1]).build());
      System.out.println(
          token.getTokenType() + " " + token.getGeneration() + " " + token.getExpiresIn().getSeconds());
    } catch (StatusRuntimeException failure) {
      System.err.println(reasonOf(failure));
      System.exit(1);
    } finally {
      channel.shutdownNow();
    }
  }

  /** The broker's ErrorReason, or gRPC's code where the broker has not said why. */
  private static String reasonOf(StatusRuntimeException failure) throws Exception {
    for (var detail : StatusProto.fromThrowable(failure).getDetailsList()) {
      if (detail.is(ErrorInfo.class)) {
        return detail.unpack(ErrorInfo.class).getReason();
      }
    }
    return failure.getStatus().getCode().name();
  }
}
