package api

import "net/http"

// Inputs and outputs of the operations that need more than a body.
type (
	// Nothing is an input without parameters, or an output without a body.
	Nothing struct{}

	// A Reply is an output with a JSON body.
	Reply[T any] struct{ Body T }

	// A Request is an input with a JSON body.
	Request[T any] struct{ Body T }

	// An IDInput names one object.
	IDInput struct {
		ID string `path:"id"`
	}

	// A Created is a reply with status 201.
	Created[T any] struct {
		Status int
		Body   T
	}

	// A Caller says who asks: web sets the headers on everything that it forwards, and nobody else reaches the services' sockets.
	Caller struct {
		User   string `header:"Galvo-User" hidden:"true"`
		Client string `header:"Galvo-Client" hidden:"true"`
	}

	// A StopInput names one object and says who asks.
	StopInput struct {
		Caller
		IDInput
	}

	// A CaptureInput is a CaptureRequest with its caller.
	CaptureInput struct {
		Caller
		InSlot
		Body CaptureRequest
	}

	// InSlot addresses the live traffic, or a slot in which savefiles are analysed.
	InSlot struct {
		Slot string `query:"mm-id" maxLength:"16" doc:":1 is slot 1; without it, the live traffic."`
	}

	// A FormatInput asks for a device to be formatted.
	FormatInput struct {
		Caller
		IDInput
		Body FormatRequest
	}

	// An ActivateInput asks for a device to be taken into use.
	ActivateInput struct {
		Caller
		IDInput
		Body *ActivateRequest `required:"false"`
	}

	// A SlotsInput asks for an analysis.
	SlotsInput struct {
		Caller
		Body SlotRequest
	}

	// A SlotInput names a slot.
	SlotInput struct {
		Caller
		ID int `path:"id"`
	}

	// A CaptureList is the running and waiting captures, or the finished ones, newest first.
	CaptureList struct {
		Captures []Capture `json:"captures"`
	}

	// A FilterInput is an expression to check.
	FilterInput struct {
		InSlot
		Body struct {
			Expression string `json:"expression" maxLength:"65536"`
			Source     string `json:"source,omitempty" maxLength:"63" doc:"What would be captured from, as in POST /captures."`
		}
	}

	// A Text is a body of TOML.
	Text struct {
		RawBody []byte `contentType:"application/toml"`
	}

	// A ConfigText is a configuration in the place of another.
	ConfigText struct {
		IfMatch string `header:"If-Match" doc:"ETag of the configuration that it is to replace: if that is not the current one any more, nothing is done."`
		Text
	}

	// A PartsInput names parts of the configuration; none is all.
	PartsInput struct {
		Parts []string `query:"parts" doc:"Names of tables, separated by commas; none is all."`
	}

	// A PartsText is a body of TOML, of which some parts are taken.
	PartsText struct {
		PartsInput
		Text
	}

	// A GenerationInput names a former configuration.
	GenerationInput struct {
		Number int `path:"number" minimum:"1" maximum:"10" doc:"1 is the latest."`
	}

	// A TextReply is a reply of TOML.
	TextReply struct {
		ContentType string `header:"Content-Type"`
		ETag        string `header:"ETag"`
		Body        []byte
	}

	// A LogInput names a service of an appliance.
	LogInput struct {
		Service string `path:"service" enum:"host,engine,web,init"`
	}

	// A LoginInput opens a session for the page.
	LoginInput struct {
		Caller
		Body struct {
			User     string `json:"user" maxLength:"64"`
			Password string `json:"password" maxLength:"1024"`
		}
	}

	// A LogoutInput ends the session of its cookie.
	LogoutInput struct {
		Caller
		Cookie string `header:"Cookie" hidden:"true"`
	}

	// A CookieReply sets or deletes the session's cookie.
	CookieReply struct {
		SetCookie string `header:"Set-Cookie"`
	}

	// A TokenInput asks for a token.
	TokenInput struct {
		Caller
		Body struct {
			Name string `json:"name" minLength:"1" maxLength:"64"`
			Role Role   `json:"role" enum:"viewer,capture,admin"`
		}
	}
)

// The operations.
var (
	StartCapture      = operation[CaptureInput, Created[CaptureCreated]](ServiceEngine, RoleCapture, http.MethodPost, "/api/v1/captures", "Start a capture")
	ListCaptures      = operation[InSlot, Reply[CaptureList]](ServiceEngine, RoleViewer, http.MethodGet, "/api/v1/captures", "List captures that run or wait")
	StopCapture       = operation[StopInput, Nothing](ServiceEngine, RoleCapture, http.MethodDelete, "/api/v1/captures/{id}", "Stop a capture")
	ListFinished      = operation[InSlot, Reply[CaptureList]](ServiceEngine, RoleViewer, http.MethodGet, "/api/v1/captures/finished", "List the last 100 captures that ended")
	DeleteFinished    = operation[Nothing, Nothing](ServiceEngine, RoleCapture, http.MethodDelete, "/api/v1/captures/finished", "Empty the list of captures that ended")
	CheckFilter       = operation[FilterInput, Reply[FilterCheck]](ServiceEngine, RoleViewer, http.MethodPost, "/api/v1/filter/check", "Check an expression and explain it in words")
	ListPorts         = operation[InSlot, Reply[[]Port]](ServiceEngine, RoleViewer, http.MethodGet, "/api/v1/ports", "List the ports")
	ListProtocols     = operation[InSlot, Reply[[]ProtocolCount]](ServiceEngine, RoleViewer, http.MethodGet, "/api/v1/protocols", "List the protocols that can be recognised, and what was seen of them")
	ListStorage       = operation[Nothing, Reply[StorageList]](ServiceHost, RoleViewer, http.MethodGet, "/api/v1/storage", "List the storage devices")
	ActivateStorage   = operation[ActivateInput, Reply[Storage]](ServiceHost, RoleAdmin, http.MethodPost, "/api/v1/storage/{id}/activate", "Take a storage device into use")
	DeactivateStorage = operation[StopInput, Reply[Storage]](ServiceHost, RoleAdmin, http.MethodPost, "/api/v1/storage/{id}/deactivate", "Take a storage device out of use, so that it can be unplugged")
	FormatStorage     = operation[FormatInput, Reply[Storage]](ServiceHost, RoleAdmin, http.MethodPost, "/api/v1/storage/{id}/format", "Delete everything on a disk and put a file system on it; GET /storage shows the progress")
	ListSlots         = operation[Nothing, Reply[SlotList]](ServiceEngine, RoleViewer, http.MethodGet, "/api/v1/slots", "List the slots in which savefiles are analysed")
	StartSlot         = operation[SlotsInput, Created[Slot]](ServiceEngine, RoleCapture, http.MethodPost, "/api/v1/slots", "Analyse savefiles in a slot of their own")
	StopSlot          = operation[SlotInput, Nothing](ServiceEngine, RoleCapture, http.MethodDelete, "/api/v1/slots/{id}", "End an analysis and free its slot")
	GetConfig         = operation[Nothing, TextReply](ServiceHost, RoleAdmin, http.MethodGet, "/api/v1/config", "Read the configuration, as TOML")
	PutConfig         = operation[ConfigText, Reply[ConfigCheck]](ServiceHost, RoleAdmin, http.MethodPut, "/api/v1/config", "Replace the configuration")
	CheckConfig       = operation[Text, Reply[ConfigCheck]](ServiceHost, RoleAdmin, http.MethodPost, "/api/v1/config/check", "Say what a configuration would change")
	ConfirmConfig     = operation[Nothing, Nothing](ServiceHost, RoleAdmin, http.MethodPost, "/api/v1/config/confirm", "Keep changed management settings, which are undone otherwise")
	ExportConfig      = operation[PartsInput, TextReply](ServiceHost, RoleAdmin, http.MethodGet, "/api/v1/config/export", "Read parts of the configuration, as TOML")
	ImportConfig      = operation[PartsText, Reply[ConfigCheck]](ServiceHost, RoleAdmin, http.MethodPost, "/api/v1/config/import", "Replace parts of the configuration")
	ResetConfig       = operation[Request[Reset], Reply[ConfigCheck]](ServiceHost, RoleAdmin, http.MethodPost, "/api/v1/config/reset", "Bring the configuration back to its defaults")
	ListGenerations   = operation[Nothing, Reply[[]Generation]](ServiceHost, RoleAdmin, http.MethodGet, "/api/v1/config/generations", "List the last ten configurations")
	GetGeneration     = operation[GenerationInput, TextReply](ServiceHost, RoleAdmin, http.MethodGet, "/api/v1/config/generations/{number}", "Read a former configuration, as TOML")
	RestoreGeneration = operation[GenerationInput, Reply[ConfigCheck]](ServiceHost, RoleAdmin, http.MethodPost, "/api/v1/config/generations/{number}/restore", "Make a former configuration the current one")
	GetNetwork        = operation[Nothing, Reply[Network]](ServiceHost, RoleViewer, http.MethodGet, "/api/v1/system/network", "Show how the device is reached, and its clock")
	FactoryReset      = operation[Request[Reset], Nothing](ServiceWeb, RoleAdmin, http.MethodPost, "/api/v1/system/factory-reset", "Bring configuration and users back to how they were at first")
	GetMemory         = operation[Nothing, Reply[Memory]](ServiceHost, RoleViewer, http.MethodGet, "/api/v1/system/memory", "Show the memory plan")
	RestartProcessing = operation[Nothing, Nothing](ServiceHost, RoleAdmin, http.MethodPost, "/api/v1/system/restart-processing", "Start the engine anew; statistics begin at zero")
	GetFirmware       = operation[Nothing, Reply[Firmware]](ServiceHost, RoleViewer, http.MethodGet, FirmwarePath, "Show the firmware of the appliance, and what it would start next")
	Reboot            = operation[Nothing, Nothing](ServiceHost, RoleAdmin, http.MethodPost, "/api/v1/system/reboot", "Start the appliance again, in order")
	Poweroff          = operation[Nothing, Nothing](ServiceHost, RoleAdmin, http.MethodPost, "/api/v1/system/poweroff", "Switch the appliance off, in order")
	GetLog            = operation[LogInput, TextReply](ServiceHost, RoleAdmin, http.MethodGet, "/api/v1/system/log/{service}", "Show what a service of the appliance said last")
	GetStatus         = operation[Nothing, Reply[Status]](ServiceWeb, RoleViewer, http.MethodGet, "/api/v1/status", "Show the state of the device")
	Login             = operation[LoginInput, CookieReply](ServiceWeb, RoleNone, http.MethodPost, "/api/v1/login", "Open a session for the page, in a cookie")
	Logout            = operation[LogoutInput, CookieReply](ServiceWeb, RoleNone, http.MethodPost, "/api/v1/logout", "End the session of the cookie")
	ListTokens        = operation[Nothing, Reply[[]Token]](ServiceWeb, RoleAdmin, http.MethodGet, "/api/v1/tokens", "List the tokens, without their secrets")
	MakeToken         = operation[TokenInput, Created[Token]](ServiceWeb, RoleAdmin, http.MethodPost, "/api/v1/tokens", "Make a token")
	DeleteToken       = operation[IDInput, Nothing](ServiceWeb, RoleAdmin, http.MethodDelete, "/api/v1/tokens/{id}", "Revoke a token")
)

// The paths of the plain handlers, which stream or have a query reader of their own.
const (
	CaptureURLPath = "/API/data/modules/capture"
	StreamPath     = "/api/v1/captures/{id}/stream"
	EventsPath     = "/api/v1/events"
	FilesPath      = "/api/v1/storage/{id}/files/{path...}"
	OpenAPIPath    = "/api/v1/openapi.json"
	FirmwarePath   = "/api/v1/system/firmware"
)

// captureQuery are the parameters of the capture URL, whose names may have any case.
var captureQuery = []string{
	"startTime: microseconds since the epoch, or now; the first packet of this time or later starts; 0 is the oldest packet of a ring", "endTime: likewise; ends by the clock, too",
	"expression: expert filter; && in it needs no encoding", "snapPacketLength: 1 to 65535 bytes kept of each packet", "fromCaptureBuffer: true captures from a packet ring buffer",
	"ring: its name, if there are several", "captureToMedia: true stores the capture on a storage device", "device: id or name of the storage device",
	"useSingleInterface: true writes one interface", "format: pcapng, pcap (microseconds) or pcap-ns", "undecided: skip or hold packets whose flow has no verdict yet",
	"maxBytes: ends before more bytes of packets", "maxPackets: ends after so many packets", "maxSeconds: ends after so many seconds",
	"comment: of the file", "deviceInfo: true adds name, version, memory and filter to the comment", "fileName: with strftime fields of the start time", "directory: of the storage device", "splitBytes: begins a new file on the storage device before one would exceed so many bytes",
	"splitSeconds: likewise after so many seconds", "mm-id: :1 captures from slot 1",
}

// Routes returns the route table.
func Routes() []Route {
	return []Route{
		StartCapture.Route, ListCaptures.Route, StopCapture.Route, ListFinished.Route, DeleteFinished.Route,
		CheckFilter.Route, ListPorts.Route, ListProtocols.Route,
		ListStorage.Route, ActivateStorage.Route, DeactivateStorage.Route, FormatStorage.Route, ListSlots.Route, StartSlot.Route, StopSlot.Route,
		ListRings.Route, MakeRing.Route, GetRing.Route, DeleteRing.Route, DryRunRing.Route, SetRules.Route, PinRing.Route,
		ConfirmConfig.Route, ExportConfig.Route, ImportConfig.Route, ResetConfig.Route, ListGenerations.Route, GetGeneration.Route, RestoreGeneration.Route,
		GetNetwork.Route, FactoryReset.Route,
		GetConfig.Route, PutConfig.Route, CheckConfig.Route, GetMemory.Route, RestartProcessing.Route, Reboot.Route, Poweroff.Route, GetLog.Route,
		GetStatus.Route, Login.Route, Logout.Route, ListTokens.Route, MakeToken.Route, DeleteToken.Route,
		{Method: http.MethodGet, Path: CaptureURLPath, Service: ServiceEngine, Role: RoleCapture, Summary: "Capture URL", Stream: true, Query: captureQuery},
		{Method: http.MethodGet, Path: StreamPath, Service: ServiceEngine, Role: RoleCapture, Summary: "Fetch the packets of a capture", Stream: true},
		{Method: http.MethodGet, Path: EventsPath, Service: ServiceEngine, Role: RoleViewer, Summary: "State as server-sent events", Stream: true,
			Query: []string{"mm-id: :1 has the ports and protocols of slot 1"}},
		{Method: http.MethodGet, Path: FilesPath, Service: ServiceEngine, Role: RoleCapture, Summary: "List a directory, or download a file"},
		{Method: http.MethodPost, Path: FilesPath, Service: ServiceEngine, Role: RoleCapture, Summary: "Upload a file, make a directory, or rename", Upload: true,
			Query: []string{
				"directory: true makes a directory instead of a file", "rename: new path of what is there already, from the top of the device",
				"offset: where the body begins in the file; an upload that broke off goes on at the size of PATH.part, which is in the error about another offset too", "total: size of the whole file, if the body is only a part of it",
			}},
		{Method: http.MethodDelete, Path: FilesPath, Service: ServiceEngine, Role: RoleCapture, Summary: "Delete a file or a directory",
			Query: []string{"everything: true deletes a directory with everything in it"}},
		GetFirmware.Route,
		{Method: http.MethodPost, Path: FirmwarePath, Service: ServiceHost, Role: RoleAdmin, Upload: true, Summary: "Install an update, which is the body; the next start of the appliance tries it"},
		{Method: http.MethodGet, Path: OpenAPIPath, Service: ServiceWeb, Role: RoleViewer, Summary: "This description"},
	}
}
