package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"galvo/services/durable"
)

// certificateLife is what browsers take at most (CA/Browser Forum, 398 days).
const certificateLife = 397 * 24 * time.Hour

// certificates keeps the device's own certificate, which is made anew when two thirds of its life are over or a name is missing in it.
type certificates struct {
	path string // holds certificate and key, in PEM
	now  func() time.Time

	mu      sync.Mutex
	current *tls.Certificate
	names   []string // that the certificate must have
}

// openCertificates reads the certificate of the file at path, or makes one for names, which are host names and addresses.
func openCertificates(path string, names []string) (*certificates, error) {
	c := &certificates{path: path, now: time.Now, names: names}
	if pair, err := tls.LoadX509KeyPair(path, path); err == nil {
		c.current = &pair
	} else if !errors.Is(err, os.ErrNotExist) {
		slog.Warn("the certificate cannot be read; a new one is made", "file", path, "error", err)
	}
	_, err := c.get()
	return c, err
}

func (c *certificates) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1", "http/1.0"}, // a client that offers only names that are not here is refused (RFC 7301, 3.2)
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.get() },
	}
}

// require makes the certificate have these names from now on. It is made anew when one of them is missing in it; names that are over may stay.
func (c *certificates) require(names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.names = names
}

// fingerprint returns the SHA-256 of the certificate as browsers show it.
func (c *certificates) fingerprint() string {
	pair, err := c.get()
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(pair.Certificate[0])
	return strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")
}

// get returns the certificate, after it was renewed if it is time.
func (c *certificates) get() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.good() {
		return c.current, nil
	}
	made, err := c.renew()
	if err != nil && c.current == nil {
		return nil, err
	}
	if err != nil {
		slog.Error("renew the certificate", "error", err)
		return c.current, nil
	}
	c.current = made
	return made, nil
}

// good needs c.mu.
func (c *certificates) good() bool {
	if c.current == nil {
		return false
	}
	leaf, now := c.current.Leaf, c.now()
	renewal := leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) * 2 / 3)
	// A clock that was wrong when the certificate was made is as bad as one that is over.
	if now.After(renewal) || now.Before(leaf.NotBefore) {
		return false
	}
	for _, n := range c.names {
		if leaf.VerifyHostname(n) != nil {
			return false
		}
	}
	return true
}

// renew makes a certificate and keeps it in the file. It needs c.mu.
func (c *certificates) renew() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	// Clients' clocks may be behind, and the device's own is not known to be right.
	from := c.now().Add(-24 * time.Hour)
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: c.names[0], Organization: []string{"Galvo, self-made"}},
		NotBefore:             from,
		NotAfter:              from.Add(certificateLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, n := range c.names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the key: %w", err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...)
	if err := durable.WriteFile(c.path, text); err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, fmt.Errorf("read the certificate that was made: %w", err)
	}
	slog.Info("a certificate was made", "names", c.names, "until", template.NotAfter, "sha256", fmt.Sprintf("% X", sha256.Sum256(der)))
	return &pair, nil
}
