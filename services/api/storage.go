package api

// A Storage is a device for captures, savefiles and rings: a disk, or a directory of the host.
type Storage struct {
	ID         string `json:"id" doc:"Of a disk it stays the same, whatever the disk is called; of a directory it is its name."`
	Name       string `json:"name" doc:"Alias from the configuration; else what the device calls itself."`
	Kind       string `json:"kind" enum:"directory,disk"`
	State      string `json:"state" doc:"active; inactive; absent; locked, encrypted and without its password; unformatted; foreign, with a file system that is not used; system, in use by the machine itself; formatting; failed"`
	Reason     string `json:"reason,omitempty" doc:"Why it is not active, or what is wrong, and what to do."`
	Path       string `json:"path" doc:"The directory below the state directory, or the disk's device file."`
	Model      string `json:"model,omitempty"`
	Serial     string `json:"serial,omitempty"`
	Transport  string `json:"transport,omitempty" doc:"nvme, sata, usb, virtio, mmc, scsi, iscsi, or other"`
	Removable  bool   `json:"removable"`
	FileSystem string `json:"fileSystem,omitempty"`
	Encrypted  bool   `json:"encrypted"`
	Health     string `json:"health" enum:"good,failing,unknown"`
	HealthNote string `json:"healthNote,omitempty" doc:"What the device says about itself, or why its health is not known."`
	Bytes      uint64 `json:"bytes" doc:"Size of the disk, or of the file system that a directory is on."`
	FreeBytes  uint64 `json:"freeBytes" doc:"That files can take still."`
	RingFree   uint64 `json:"ringFreeBytes" doc:"That a new ring can take still: also what is kept from files."`
	RingBytes  uint64 `json:"ringBytes" doc:"That rings take."`
	RingShare  int    `json:"ringShare" doc:"Percentage of the device that is meant for rings; 100 leaves no room for files."`
	Progress   int    `json:"progress,omitempty" doc:"Percentage of the formatting that is done."`
}

// A StorageList is all storage devices, those of the configuration first.
type StorageList struct {
	Devices []Storage `json:"devices"`
}

// An ActivateRequest takes a device into use.
type ActivateRequest struct {
	Name     string `json:"name,omitempty" maxLength:"64" doc:"Alias to give it; empty leaves it as it is."`
	Password string `json:"password,omitempty" maxLength:"512" doc:"Of an encrypted device."`
}

// A FormatRequest deletes everything on a disk.
type FormatRequest struct {
	Confirm   string `json:"confirm" maxLength:"255" doc:"The device's name, typed by who wants everything on it deleted."`
	Name      string `json:"name,omitempty" maxLength:"64" doc:"Alias to give it; empty leaves it as it is."`
	RingShare int    `json:"ringShare,omitempty" minimum:"0" maximum:"100" doc:"Percentage of the device for rings."`
	Encrypt   bool   `json:"encrypt,omitempty" doc:"Encrypt the device (LUKS2); Password is needed at every activation."`
	Password  string `json:"password,omitempty" maxLength:"512"`
}

// A File is one file or directory on a storage device.
type File struct {
	Name     string `json:"name"`
	Path     string `json:"path" doc:"From the top of the device."`
	Escaped  string `json:"escaped,omitempty" doc:"The path percent-encoded, as calls take it in their own path, where it is not UTF-8: name and path cannot say it then. Somebody else put the file there."`
	Type     string `json:"type" enum:"file,directory,link,other"`
	Bytes    int64  `json:"bytes"`
	Modified int64  `json:"modified"`
	Writing  bool   `json:"writing,omitempty" doc:"A capture or an upload writes it now."`
}

// A Directory is what GET of a directory on a storage device answers.
type Directory struct {
	Device     string `json:"device"`
	Path       string `json:"path" doc:"From the top of the device, which is empty."`
	Files      []File `json:"files" doc:"Directories first, then by name."`
	Bytes      uint64 `json:"bytes" doc:"Size of the device."`
	FreeBytes  uint64 `json:"freeBytes"`
	WholeBytes uint64 `json:"wholeBytes" doc:"Sum of the files in this directory."`
}

// A StoredFile names a savefile on a storage device; a directory stands for all savefiles in it.
type StoredFile struct {
	Device string `json:"device,omitempty" maxLength:"255" doc:"The only active device may be left out."`
	Path   string `json:"path" maxLength:"4096"`
}

// A SlotRequest asks for an analysis of savefiles, merged in the order of time.
type SlotRequest struct {
	Slot  int           `json:"slot,omitempty" minimum:"0" doc:"Which slot; 0 is the first one that is free."`
	Files []StoredFile  `json:"files,omitempty" maxItems:"1000"`
	Ring  *RingInterval `json:"ring,omitempty" doc:"An interval of a ring instead of files."`
}

// A Slot is a place in which savefiles are analysed beside the live traffic. Other calls address it with mm-id=:ID.
type Slot struct {
	ID          int           `json:"id" doc:"From 1."`
	State       string        `json:"state" doc:"free, running, ready, or failed"`
	Reason      string        `json:"reason,omitempty" doc:"What is wrong with the files, or not told as they have it; what could be read of them was analysed."`
	User        string        `json:"user,omitempty"`
	Files       []StoredFile  `json:"files"`
	Ring        *RingInterval `json:"ring,omitempty"`
	Bytes       int64         `json:"bytes" doc:"Read so far, of the files as they lie on disk."`
	TotalBytes  int64         `json:"totalBytes"`
	Packets     uint64        `json:"packets"`
	Rate        uint64        `json:"rate" doc:"Bytes per second."`
	SecondsLeft int64         `json:"secondsLeft" doc:"-1 is not known yet."`
	StartTime   int64         `json:"startTime,omitempty" doc:"Of the first packet."`
	EndTime     int64         `json:"endTime,omitempty" doc:"Of the latest packet."`
	Flows       uint64        `json:"flows"`
	Scan        *Scan         `json:"scan,omitempty" doc:"Of a ring: what was looked at, and of which times packets may be missing."`
}

// A SlotList is all slots.
type SlotList struct {
	Slots []Slot `json:"slots"`
}
