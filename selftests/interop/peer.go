// SPDX-License-Identifier: Apache-2.0

// A peer of other people's making: OpenTelemetry's own OpAMP client and server library, driven by
// lines on stdin and telling what happens as JSON lines on stdout.
//
//	peer server ADDRESS CA_OUT
//	peer client URL CA_FILE TOKEN UID_HEX
package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/open-telemetry/opamp-go/client"
	clienttypes "github.com/open-telemetry/opamp-go/client/types"
	"github.com/open-telemetry/opamp-go/protobufs"
	"github.com/open-telemetry/opamp-go/server"
	servertypes "github.com/open-telemetry/opamp-go/server/types"
)

var printing sync.Mutex

func tell(event string, more map[string]any) {
	printing.Lock()
	defer printing.Unlock()
	if more == nil {
		more = map[string]any{}
	}
	more["event"] = event
	line, err := json.Marshal(more)
	check(err)
	fmt.Println(string(line))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

type logger struct{}

func (logger) Debugf(context.Context, string, ...any) {}
func (logger) Errorf(_ context.Context, format string, v ...any) {
	fmt.Fprintf(os.Stderr, "peer: "+format+"\n", v...)
}

// ---- certificates

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func template(name string) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	check(err)
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
}

func newAuthority() *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	t := template("interop CA")
	t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	check(err)
	cert, err := x509.ParseCertificate(der)
	check(err)
	return &authority{cert, key}
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a *authority) server(host string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	t := template(host)
	t.IPAddresses = []net.IP{net.ParseIP(host)}
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, &key.PublicKey, a.key)
	check(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) sign(csr []byte) ([]byte, error) {
	block, _ := pem.Decode(csr)
	if block == nil {
		return nil, fmt.Errorf("the request is not PEM")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	if err = request.CheckSignature(); err != nil {
		return nil, err
	}
	t := template("interop endpoint")
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, request.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// ---- server

type manager struct {
	ca   *authority
	mu   sync.Mutex
	last servertypes.Connection
	uid  []byte
}

func describe(m *protobufs.AgentToServer) map[string]any {
	more := map[string]any{
		"uid":          hex.EncodeToString(m.InstanceUid),
		"sequence":     m.SequenceNum,
		"capabilities": m.Capabilities,
		"described":    m.AgentDescription != nil,
		"healthy":      m.Health.GetHealthy(),
		"disconnect":   m.AgentDisconnect != nil,
		"custom":       m.CustomMessage.GetType(),
	}
	for _, kv := range m.AgentDescription.GetIdentifyingAttributes() {
		more[kv.Key] = kv.Value.GetStringValue()
	}
	files := []string{}
	for name := range m.EffectiveConfig.GetConfigMap().GetConfigMap() {
		files = append(files, name)
	}
	more["config"] = files
	if s := m.ConnectionSettingsStatus; s != nil {
		more["settings"] = s.Status.String()
	}
	return more
}

func (s *manager) onMessage(_ context.Context, conn servertypes.Connection, m *protobufs.AgentToServer) *protobufs.ServerToAgent {
	s.mu.Lock()
	s.last, s.uid = conn, m.InstanceUid
	s.mu.Unlock()
	more := describe(m)
	if state := conn.Connection().(*tls.Conn).ConnectionState(); len(state.PeerCertificates) > 0 {
		more["certificate"] = state.PeerCertificates[0].Subject.CommonName
	}
	answer := &protobufs.ServerToAgent{
		InstanceUid: m.InstanceUid,
		Capabilities: uint64(protobufs.ServerCapabilities_ServerCapabilities_AcceptsStatus |
			protobufs.ServerCapabilities_ServerCapabilities_OffersConnectionSettings |
			protobufs.ServerCapabilities_ServerCapabilities_AcceptsConnectionSettingsRequest),
	}
	if csr := m.ConnectionSettingsRequest.GetOpamp().GetCertificateRequest().GetCsr(); len(csr) > 0 {
		cert, err := s.ca.sign(csr)
		if err != nil {
			more["csr_error"] = err.Error()
		}
		answer.ConnectionSettings = &protobufs.ConnectionSettingsOffers{
			Hash: []byte("certificate"),
			Opamp: &protobufs.OpAMPConnectionSettings{
				Certificate: &protobufs.TLSCertificate{Cert: cert, CaCert: s.ca.pem()},
			},
		}
	}
	tell("message", more)
	return answer
}

func (s *manager) send(m *protobufs.ServerToAgent) {
	s.mu.Lock()
	conn := s.last
	m.InstanceUid = s.uid
	s.mu.Unlock()
	check(conn.Send(context.Background(), m))
}

func runServer(address, caOut string) {
	s := &manager{ca: newAuthority()}
	pool := x509.NewCertPool()
	pool.AddCert(s.ca.cert)
	host, _, err := net.SplitHostPort(address)
	check(err)
	check(os.WriteFile(caOut, s.ca.pem(), 0o644))
	srv := server.New(logger{})
	check(srv.Start(server.StartSettings{
		ListenEndpoint: address,
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{s.ca.server(host)},
			ClientAuth:   tls.VerifyClientCertIfGiven,
			ClientCAs:    pool,
		},
		Settings: server.Settings{
			Callbacks: servertypes.Callbacks{
				OnConnecting: func(r *http.Request) servertypes.ConnectionResponse {
					tell("connecting", map[string]any{"authorization": r.Header.Get("Authorization")})
					return servertypes.ConnectionResponse{Accept: true, ConnectionCallbacks: servertypes.ConnectionCallbacks{
						OnMessage:         s.onMessage,
						OnConnectionClose: func(servertypes.Connection) { tell("closed", nil) },
						OnReadMessageError: func(_ servertypes.Connection, _ int, _ []byte, err error) {
							tell("malformed", map[string]any{"error": err.Error()})
						},
					}}
				},
			},
		},
	}))
	tell("ready", nil)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch words[0] {
		case "fullstate":
			s.send(&protobufs.ServerToAgent{Flags: uint64(protobufs.ServerToAgentFlags_ServerToAgentFlags_ReportFullState)})
		case "uid":
			uid, err := hex.DecodeString(words[1])
			check(err)
			s.send(&protobufs.ServerToAgent{AgentIdentification: &protobufs.AgentIdentification{NewInstanceUid: uid}})
		case "heartbeat":
			seconds, err := strconv.ParseUint(words[1], 10, 64)
			check(err)
			s.send(&protobufs.ServerToAgent{ConnectionSettings: &protobufs.ConnectionSettingsOffers{
				Hash:  []byte("heartbeat"),
				Opamp: &protobufs.OpAMPConnectionSettings{HeartbeatIntervalSeconds: seconds},
			}})
		}
	}
	_ = srv.Stop(context.Background()) // the process ends either way
}

// ---- client

func attribute(key, value string) *protobufs.KeyValue {
	return &protobufs.KeyValue{Key: key, Value: &protobufs.AnyValue{Value: &protobufs.AnyValue_StringValue{StringValue: value}}}
}

func health(healthy bool) *protobufs.ComponentHealth {
	now := uint64(time.Now().UnixNano())
	part := &protobufs.ComponentHealth{Healthy: healthy, StartTimeUnixNano: now, Status: "StatusOK"}
	if !healthy {
		part.LastError = "cannot reach the exporter"
	}
	return &protobufs.ComponentHealth{
		Healthy: healthy, StartTimeUnixNano: now, StatusTimeUnixNano: now, Status: "running",
		ComponentHealthMap: map[string]*protobufs.ComponentHealth{
			"pipeline:logs": {Healthy: healthy, ComponentHealthMap: map[string]*protobufs.ComponentHealth{"exporter:otlp": part}},
		},
	}
}

func onSettings(_ context.Context, s *protobufs.OpAMPConnectionSettings) error {
	more := map[string]any{"heartbeat": s.HeartbeatIntervalSeconds, "destination": s.DestinationEndpoint}
	for _, h := range s.Headers.GetHeaders() {
		more[strings.ToLower(h.Key)] = h.Value
	}
	tell("settings", more)
	return nil
}

func runClient(url, caFile, token, uidHex string) {
	ca, err := os.ReadFile(caFile)
	check(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	uid, err := hex.DecodeString(uidHex)
	check(err)
	var c client.OpAMPClient
	if strings.HasPrefix(url, "https:") {
		c = client.NewHTTP(logger{})
	} else {
		c = client.NewWebSocket(logger{})
	}
	check(c.SetAgentDescription(&protobufs.AgentDescription{
		IdentifyingAttributes:    []*protobufs.KeyValue{attribute("service.name", "io.opentelemetry.collector"), attribute("service.version", "0.1.2")},
		NonIdentifyingAttributes: []*protobufs.KeyValue{attribute("host.name", "collector-1"), attribute("os.type", "linux")},
	}))
	capabilities := protobufs.AgentCapabilities_AgentCapabilities_ReportsStatus |
		protobufs.AgentCapabilities_AgentCapabilities_ReportsEffectiveConfig |
		protobufs.AgentCapabilities_AgentCapabilities_ReportsHealth |
		protobufs.AgentCapabilities_AgentCapabilities_ReportsHeartbeat |
		protobufs.AgentCapabilities_AgentCapabilities_AcceptsOpAMPConnectionSettings
	check(c.SetHealth(health(true)))
	check(c.SetCapabilities(&capabilities))
	interval := time.Second
	settings := clienttypes.StartSettings{
		OpAMPServerURL:    url,
		Header:            http.Header{"Authorization": []string{"Bearer " + token}},
		TLSConfig:         &tls.Config{RootCAs: pool},
		InstanceUid:       clienttypes.InstanceUid(uid),
		HeartbeatInterval: &interval,
		Callbacks: clienttypes.Callbacks{
			OnConnect:       func(context.Context) { tell("connected", nil) },
			OnConnectFailed: func(_ context.Context, err error) { tell("failed", map[string]any{"error": err.Error()}) },
			OnError: func(_ context.Context, e *protobufs.ServerErrorResponse) {
				tell("error", map[string]any{"type": e.Type.String(), "text": e.ErrorMessage})
			},
			OnMessage: func(_ context.Context, m *clienttypes.MessageData) {
				if m.AgentIdentification != nil {
					tell("uid", map[string]any{"uid": hex.EncodeToString(m.AgentIdentification.NewInstanceUid)})
				}
			},
			OnOpampConnectionSettings: onSettings,
			GetEffectiveConfig: func(context.Context) (*protobufs.EffectiveConfig, error) {
				return &protobufs.EffectiveConfig{ConfigMap: &protobufs.AgentConfigMap{ConfigMap: map[string]*protobufs.AgentConfigFile{
					"collector.yaml": {Body: []byte("exporters:\n  otlp:\n    headers:\n      api-key: hunter2\n"), ContentType: "text/yaml"},
				}}}, nil
			},
		},
	}
	check(c.Start(context.Background(), settings))
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		switch lines.Text() {
		case "unhealthy":
			check(c.SetHealth(health(false)))
		case "stop":
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			check(c.Stop(ctx))
			cancel()
			tell("stopped", nil)
			return
		}
	}
}

func main() {
	switch {
	case len(os.Args) == 4 && os.Args[1] == "server":
		runServer(os.Args[2], os.Args[3])
	case len(os.Args) == 6 && os.Args[1] == "client":
		runClient(os.Args[2], os.Args[3], os.Args[4], os.Args[5])
	default:
		fmt.Fprintln(os.Stderr, "usage: peer server ADDRESS CA_OUT | peer client URL CA_FILE TOKEN UID_HEX")
		os.Exit(2)
	}
}
