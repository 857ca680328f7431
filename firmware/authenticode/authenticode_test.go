package authenticode

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"galvo/ci/need"
	"galvo/firmware/uki/ukitest"
)

// owner returns a certificate and its key, in PEM.
func owner(t *testing.T) (certificate, key []byte) {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "owner"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
	raw, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)})
}

// Other programs accept the signature, and see when something was changed under it.
func TestOthersVerify(t *testing.T) {
	certificate, key := owner(t)
	s, err := Parse(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	program := ukitest.Image("b", "1.0", "1.0", "x", bytes.Repeat([]byte("odd length "), 777))
	signed, err := s.Sign(program)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Sign(program)
	if err != nil || !bytes.Equal(signed, again) {
		t.Errorf("signing twice gives other bytes, %v", err)
	}
	if _, err := s.Sign(signed); err == nil {
		t.Error("signed what is signed already")
	}
	changed := bytes.Clone(signed)
	changed[len(program)/2] ^= 1
	dir := t.TempDir()
	path := func(name string, content []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	cert, good, bad := path("cert.pem", certificate), path("good.efi", signed), path("bad.efi", changed)
	t.Run("sbverify", func(t *testing.T) {
		verify := need.Tool(t, "sbverify")
		if out, err := exec.Command(verify, "--cert", cert, good).CombinedOutput(); err != nil || !strings.Contains(string(out), "OK") {
			t.Errorf("%v: %s", err, out)
		}
		if out, err := exec.Command(verify, "--cert", cert, bad).CombinedOutput(); err == nil {
			t.Errorf("a changed program: %s", out)
		}
	})
	t.Run("osslsigncode", func(t *testing.T) {
		verify := need.Tool(t, "osslsigncode")
		out, err := exec.Command(verify, "verify", "-CAfile", cert, good).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "Signature verification: ok") {
			t.Errorf("%v: %s", err, out)
		}
	})
}

func TestParseRefuses(t *testing.T) {
	certificate, key := owner(t)
	_, other := owner(t)
	for _, c := range []struct {
		certificate, key []byte
		want             string
	}{{certificate, other, "not that of the certificate"}, {nil, key, "PEM"}, {certificate, certificate, "not an RSA key"}, {key, key, "read the certificate"}} {
		if _, err := Parse(c.certificate, c.key); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	s, err := Parse(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sign([]byte("MZ")); err == nil {
		t.Error("signed what is no program")
	}
}
