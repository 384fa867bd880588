package tokenbroker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Credentials say how a client proves who it is: TLS, or Insecure.
type Credentials interface {
	identity() identity
}

// identity is credentials in a client's use.
type identity interface {
	// stamp changes when a file of the connection's does.
	stamp() string
	// transport makes the credentials of a new connection, from the files as they are now.
	transport() (credentials.TransportCredentials, error)
	// perCall returns what goes with each call, or nil.
	perCall() credentials.PerRPCCredentials
}

// Insecure is for a broker on this machine that serves anybody: in the clear, without a proof.
func Insecure() Credentials { return inTheClear{} }

type inTheClear struct{}

func (inTheClear) identity() identity                     { return inTheClear{} }
func (inTheClear) stamp() string                          { return "" }
func (inTheClear) perCall() credentials.PerRPCCredentials { return nil }
func (inTheClear) transport() (credentials.TransportCredentials, error) {
	return insecure.NewCredentials(), nil
}

// TLS names files, all of them PEM save the token. They are read again when they change; one that can't be used is not
// taken, and what was read before stays.
type TLS struct {
	// CAFile says whom to trust; without it the system's authorities.
	CAFile string
	// CertificateFile and KeyFile are the client's own, for mutual TLS.
	CertificateFile, KeyFile string
	// TokenFile holds a bearer token, such as Kubernetes projects into a pod.
	TokenFile string
}

func (t TLS) identity() identity {
	made := &byFiles{files: t}
	if t.TokenFile != "" {
		made.token = &bearerToken{file: t.TokenFile}
	}
	return made
}

type byFiles struct {
	files TLS
	token *bearerToken
}

func (b *byFiles) stamp() string {
	return stampOf(b.files.CAFile, b.files.CertificateFile, b.files.KeyFile)
}

func (b *byFiles) transport() (credentials.TransportCredentials, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if b.files.CAFile != "" {
		authorities, err := authoritiesIn(b.files.CAFile)
		if err != nil {
			return nil, err
		}
		config.RootCAs = authorities
	}
	if (b.files.CertificateFile == "") != (b.files.KeyFile == "") {
		return nil, errors.New("CertificateFile and KeyFile belong together")
	}
	if b.files.CertificateFile != "" {
		pair, err := tls.LoadX509KeyPair(b.files.CertificateFile, b.files.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("%s and %s: %w", b.files.CertificateFile, b.files.KeyFile, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	if b.token != nil {
		if _, err := b.token.read(); err != nil {
			return nil, err
		}
	}
	return credentials.NewTLS(config), nil
}

func (b *byFiles) perCall() credentials.PerRPCCredentials {
	if b.token == nil {
		return nil
	}
	return b.token
}

func authoritiesIn(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return authorities, nil
}

// stampOf is another when one of the files is, as their sizes and times of change tell.
func stampOf(paths ...string) string {
	var stamp []byte
	for _, path := range paths {
		if path == "" {
			continue
		}
		if info, err := os.Stat(path); err == nil {
			stamp = fmt.Appendf(stamp, "%d/%d/", info.ModTime().UnixNano(), info.Size())
		} else {
			stamp = append(stamp, "?/"...)
		}
	}
	return string(stamp)
}
