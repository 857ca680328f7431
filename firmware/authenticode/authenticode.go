// Package authenticode signs EFI programs with an owner's key, so that UEFI firmware with Secure Boot starts them (Microsoft, Windows Authenticode Portable
// Executable Signature Format; UEFI 2.10, section 32.2; RFC 2315).
//
// The signature has no time in it, so that the same program and key give the same bytes. Keys are RSA.
package authenticode

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"debug/pe"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// A Signer has the owner's key.
type Signer struct {
	certificate *x509.Certificate
	key         *rsa.PrivateKey
}

// Parse reads a certificate and its private key, both in PEM.
func Parse(certificate, key []byte) (*Signer, error) {
	c, _ := pem.Decode(certificate)
	k, _ := pem.Decode(key)
	if c == nil || k == nil {
		return nil, errors.New("certificate and key must be PEM files")
	}
	s := &Signer{}
	var err error
	if s.certificate, err = x509.ParseCertificate(c.Bytes); err != nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	if s.key, err = x509.ParsePKCS1PrivateKey(k.Bytes); err != nil {
		parsed, e := x509.ParsePKCS8PrivateKey(k.Bytes)
		private, ok := parsed.(*rsa.PrivateKey)
		if e != nil || !ok {
			return nil, errors.New("the key is not an RSA key without password: decrypt it with openssl pkey")
		}
		s.key = private
	}
	if public, ok := s.certificate.PublicKey.(*rsa.PublicKey); !ok || !public.Equal(&s.key.PublicKey) {
		return nil, errors.New("the key is not that of the certificate")
	}
	return s, nil
}

// Offsets in a PE32+ program.
const (
	checkSum     = 24 + 64 // from the PE signature on
	certificates = 24 + 112 + 4*8
)

// Sign returns the program with a signature at its end. A program that is signed already is an error.
func (s *Signer) Sign(program []byte) ([]byte, error) {
	f, err := pe.NewFile(bytes.NewReader(program))
	if err != nil {
		return nil, fmt.Errorf("sign: this is not an EFI program: %w", err)
	}
	if _, ok := f.OptionalHeader.(*pe.OptionalHeader64); !ok {
		return nil, errors.New("sign: this is not a PE32+ program")
	}
	header := int(binary.LittleEndian.Uint32(program[0x3c:]))
	directory := program[header+certificates:][:8]
	if !bytes.Equal(directory, make([]byte, 8)) {
		return nil, errors.New("sign: the program is signed already")
	}
	out := bytes.Clone(program)
	for len(out)%8 != 0 {
		out = append(out, 0)
	}
	// What is hashed has neither the check sum nor the place of the signature.
	sum := sha256.New()
	sum.Write(out[:header+checkSum])
	sum.Write(out[header+checkSum+4 : header+certificates])
	sum.Write(out[header+certificates+8:])
	signature, err := s.pkcs7(sum.Sum(nil))
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	// WIN_CERTIFICATE: length, revision 2, type PKCS#7.
	const head = 8
	size := (head + len(signature) + 7) / 8 * 8
	entry := make([]byte, size)
	le := binary.LittleEndian
	le.PutUint32(entry[0:], uint32(size))
	le.PutUint16(entry[4:], 0x0200)
	le.PutUint16(entry[6:], 0x0002)
	copy(entry[head:], signature)
	le.PutUint32(out[header+certificates:], uint32(len(out)))
	le.PutUint32(out[header+certificates+4:], uint32(size))
	return append(out, entry...), nil
}

func oid(n ...int) asn1.ObjectIdentifier { return n }

// Object identifiers.
var (
	oidSignedData    = oid(1, 2, 840, 113549, 1, 7, 2)
	oidContentType   = oid(1, 2, 840, 113549, 1, 9, 3)
	oidMessageDigest = oid(1, 2, 840, 113549, 1, 9, 4)
	oidRSA           = oid(1, 2, 840, 113549, 1, 1, 1)
	oidSHA256        = oid(2, 16, 840, 1, 101, 3, 4, 2, 1)
	oidIndirectData  = oid(1, 3, 6, 1, 4, 1, 311, 2, 1, 4)
	oidPEImage       = oid(1, 3, 6, 1, 4, 1, 311, 2, 1, 15)
)

func algorithm(b *cryptobyte.Builder, id asn1.ObjectIdentifier) {
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(id)
		b.AddASN1NULL()
	})
}

// explicit adds a constructed element with a context tag.
func explicit(b *cryptobyte.Builder, tag uint8, f func(b *cryptobyte.Builder)) {
	b.AddASN1(der.Tag(tag).ContextSpecific().Constructed(), f)
}

// indirectData is the SpcIndirectDataContent of a digest, without its outer tag and length.
func indirectData(digest []byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidPEImage)
		b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(der.BIT_STRING, func(b *cryptobyte.Builder) { b.AddUint8(0) }) // no flags
			// A link to a file that has no name any more.
			explicit(b, 0, func(b *cryptobyte.Builder) {
				explicit(b, 2, func(b *cryptobyte.Builder) {
					b.AddASN1(der.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) {
						for _, c := range "<<<Obsolete>>>" {
							b.AddUint16(uint16(c))
						}
					})
				})
			})
		})
	})
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		algorithm(b, oidSHA256)
		b.AddASN1OctetString(digest)
	})
	return b.Bytes()
}

// attributes returns the signed attributes, as the elements of a set in their DER order.
func attributes(content []byte) ([]byte, error) {
	sum := sha256.Sum256(content)
	var b cryptobyte.Builder
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidContentType)
		b.AddASN1(der.SET, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidIndirectData) })
	})
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidMessageDigest)
		b.AddASN1(der.SET, func(b *cryptobyte.Builder) { b.AddASN1OctetString(sum[:]) })
	})
	return b.Bytes()
}

// pkcs7 returns the signed data over the digest of a program.
func (s *Signer) pkcs7(digest []byte) ([]byte, error) {
	content, err := indirectData(digest)
	if err != nil {
		return nil, err
	}
	attrs, err := attributes(content)
	if err != nil {
		return nil, err
	}
	// What is signed is the attributes as a set; where they stand they have a context tag.
	var set cryptobyte.Builder
	set.AddASN1(der.SET, func(b *cryptobyte.Builder) { b.AddBytes(attrs) })
	signed, err := set.Bytes()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(signed)
	signature, err := rsa.SignPKCS1v15(nil, s.key, crypto.SHA256, sum[:])
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidSignedData)
		explicit(b, 0, func(b *cryptobyte.Builder) {
			b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(1)
				b.AddASN1(der.SET, func(b *cryptobyte.Builder) { algorithm(b, oidSHA256) })
				b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(oidIndirectData)
					explicit(b, 0, func(b *cryptobyte.Builder) {
						b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(content) })
					})
				})
				explicit(b, 0, func(b *cryptobyte.Builder) { b.AddBytes(s.certificate.Raw) })
				b.AddASN1(der.SET, func(b *cryptobyte.Builder) { s.info(b, attrs, signature) })
			})
		})
	})
	return b.Bytes()
}

// info adds the SignerInfo.
func (s *Signer) info(b *cryptobyte.Builder, attrs, signature []byte) {
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(s.certificate.RawIssuer)
			b.AddASN1BigInt(s.certificate.SerialNumber)
		})
		algorithm(b, oidSHA256)
		explicit(b, 0, func(b *cryptobyte.Builder) { b.AddBytes(attrs) })
		algorithm(b, oidRSA)
		b.AddASN1OctetString(signature)
	})
}
