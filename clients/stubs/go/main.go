// Prints a token's type, generation and seconds left, or why there is none. Arguments: TARGET INSTALL.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "example.com/readtoken/gen/tokenbroker/v1"
)

const deadline = 30 * time.Second

// reasonOf is the broker's ErrorReason, or gRPC's code where the broker has not said why.
func reasonOf(err error) string {
	failure := status.Convert(err)
	for _, detail := range failure.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.Reason
		}
	}
	return failure.Code().String()
}

func main() {
	log.SetFlags(0)
	target, install := os.Args[1], os.Args[2]
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	token, err := pb.NewTokenBrokerClient(conn).GetToken(ctx, &pb.GetTokenRequest{InstallId: install})
	if err != nil {
		log.Fatal(reasonOf(err))
	}
	fmt.Println(token.TokenType, token.Generation, token.ExpiresIn.Seconds)
}
