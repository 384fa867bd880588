import com.google.rpc.ErrorInfo
import io.grpc.Grpc
import io.grpc.InsecureChannelCredentials
import io.grpc.StatusException
import io.grpc.protobuf.StatusProto
import java.util.concurrent.TimeUnit
import kotlin.system.exitProcess
import kotlinx.coroutines.runBlocking
import tokenbroker.v1.TokenBrokerGrpcKt.TokenBrokerCoroutineStub
import tokenbroker.v1.getTokenRequest

const val DEADLINE_SECONDS = 30L

/** The broker's ErrorReason, or gRPC's code where the broker has not said why. */
fun reasonOf(failure: StatusException): String =
    StatusProto.fromThrowable(failure)
        ?.detailsList
        ?.firstOrNull { it.`is`(ErrorInfo::class.java) }
        ?.unpack(ErrorInfo::class.java)
        ?.reason
        ?: failure.status.code.name

/** Prints a token's type, generation and seconds left, or why there is none. Arguments: TARGET INSTALL. */
fun main(arguments: Array<String>) = runBlocking {
    val (target, install) = arguments
    val channel = Grpc.newChannelBuilder(target, InsecureChannelCredentials.create()).build()
    val broker = TokenBrokerCoroutineStub(channel).withDeadlineAfter(DEADLINE_SECONDS, TimeUnit.SECONDS)
    try {
        val token = broker.getToken(getTokenRequest { installId = install })
        println("${token.tokenType} ${token.generation} ${token.expiresIn.seconds}")
    } catch (failure: StatusException) {
        System.err.println(reasonOf(failure))
        exitProcess(1)
    } finally {
        channel.shutdownNow()
    }
}
