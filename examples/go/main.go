// A small service: GET /company/100000?install=1000000 answers with that company, as Envoy knows it.
package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"tokenbroker.example/tokenbroker"
)

var (
	target = cmp.Or(os.Getenv("TOKEN_BROKER_TARGET"), "127.0.0.1:50051")
	envoy  = cmp.Or(os.Getenv("ENVOY_ORIGIN"), "http://127.0.0.1:8081")
	port   = cmp.Or(os.Getenv("PORT"), "8000")
)

func main() {
	// One client for the whole process: it remembers tokens, and asks the broker only when one is not fresh any more.
	// In the clear, to a broker on this machine; any other is shown a certificate, or the file of a token.
	tokens, err := tokenbroker.New(target, tokenbroker.Insecure())
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("GET /company/{id}", func(w http.ResponseWriter, r *http.Request) { company(w, r, tokens) })
	server := http.Server{Addr: "127.0.0.1:" + port, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// company answers as Envoy does, with the token's generation in a header. The token itself goes nowhere but to Envoy.
func company(w http.ResponseWriter, r *http.Request, tokens *tokenbroker.Client) {
	install := r.URL.Query().Get("install")
	// Puts the install's token on each request to Envoy. If Envoy answers 401, it reports that to the broker, and sends
	// the request once more with a newer token.
	client := http.Client{Transport: tokens.Transport(install, tokenbroker.WithOrigin(envoy))}
	request, err := http.NewRequestWithContext(
		r.Context(), http.MethodGet, envoy+"/api/v3/companies/"+url.PathEscape(r.PathValue("id")), http.NoBody)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer, err := client.Do(request)
	if err != nil {
		fail(w, err)
		return
	}
	defer answer.Body.Close()
	if token, err := tokens.Token(r.Context(), install); err == nil { // From memory: it costs nothing.
		w.Header().Set("Token-Generation", strconv.FormatInt(token.Generation, 10))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(answer.StatusCode)
	io.Copy(w, answer.Body)
}

func fail(w http.ResponseWriter, err error) {
	reason := "ENVOY_UNREACHABLE"
	if failure, ok := errors.AsType[*tokenbroker.Error](err); ok {
		reason = string(failure.Reason) // Such as INSTALL_NOT_FOUND.
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadGateway)
	fmt.Fprintf(w, "{\"error\": %q}\n", reason)
}
