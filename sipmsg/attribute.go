package sipmsg

// attribute takes an a= line apart if it holds an address or says how ports
// are used.
func (s *SDP) attribute(line, value Span) {
	b := s.Raw
	end, rest := value.Hi, Span{value.Hi, value.Hi}
	for i, c := range b[value.Lo:value.Hi] { // names are short
		if c == ':' {
			end = value.Lo + int32(i)
			rest.Lo = end + 1
			break
		}
	}
	switch n := trim(b, value.Lo, end).of(b); len(n) {
	case 4:
		if EqualFold(n, "rtcp") {
			s.rtcp(line, rest)
		} else if EqualFold(n, "path") {
			s.paths(rest)
		}
	case 5:
		if EqualFold(n, "group") {
			w := words{b, rest.Lo, rest.Hi}
			s.Bundle = s.Bundle || EqualFold(w.next().of(b), "bundle")
		}
	case 8:
		switch {
		case EqualFold(n, "rtcp-mux"):
			if m := s.current(); m != nil {
				m.RTCPMux = true
			}
		case EqualFold(n, "sendrecv"):
			s.setDirection(SendRecv)
		case EqualFold(n, "sendonly"):
			s.setDirection(SendOnly)
		case EqualFold(n, "recvonly"):
			s.setDirection(RecvOnly)
		case EqualFold(n, "inactive"):
			s.setDirection(Inactive)
		}
	case 9:
		if EqualFold(n, "candidate") {
			s.candidate(line, rest)
		}
	case 11:
		if EqualFold(n, "bundle-only") {
			if m := s.current(); m != nil {
				m.BundleOnly = true
			}
		}
	case 17:
		if EqualFold(n, "remote-candidates") {
			s.remoteCandidates(rest)
		}
	}
}

// current is the media description that is being read, or nil.
func (s *SDP) current() *Media {
	if len(s.Media) == 0 {
		return nil
	}
	return &s.Media[len(s.Media)-1]
}

func (s *SDP) setDirection(d Direction) {
	if m := s.current(); m != nil {
		m.Direction = d
	} else {
		s.Direction = d
	}
}

// rtcp reads "port [IN IP4 address]".
func (s *SDP) rtcp(line, value Span) {
	b := s.Raw
	w := words{b, value.Lo, value.Hi}
	r := RTCPAttr{Line: line, Port: w.next(), Media: s.section()}
	if r.Port.Empty() {
		return
	}
	r.PortNum = portNumber(r.Port.of(b))
	w.next() // IN
	if _, ok := ipFamily(w.next().of(b)); ok {
		r.Addr = w.next()
	}
	s.RTCP = append(s.RTCP, r)
	s.parts++
}

// candidate reads "foundation component transport priority address port typ
// type [raddr address] [rport port] ...".
func (s *SDP) candidate(line, value Span) {
	b := s.Raw
	w := words{b, value.Lo, value.Hi}
	w.next() // foundation
	c := Candidate{Line: line, Media: s.section(), Component: portNumber(w.next().of(b))}
	c.UDP = EqualFold(w.next().of(b), "udp")
	w.next() // priority
	c.Addr, c.Port = w.next(), w.next()
	if c.Port.Empty() {
		return
	}
	c.PortNum = portNumber(c.Port.of(b))
	for {
		key := w.next()
		if key.Empty() {
			break
		}
		v := w.next()
		switch k := key.of(b); {
		case EqualFold(k, "typ"):
			c.Type = v
		case EqualFold(k, "raddr"):
			c.RAddr = v
		case EqualFold(k, "rport"):
			c.RPort = v
			c.RPortNum = portNumber(v.of(b))
		}
	}
	s.Candidates = append(s.Candidates, c)
	s.parts++
}

// remoteCandidates reads triples of component, address and port.
func (s *SDP) remoteCandidates(value Span) {
	b := s.Raw
	w := words{b, value.Lo, value.Hi}
	for s.parts <= MaxSDPParts {
		component, addr, port := w.next(), w.next(), w.next()
		if port.Empty() {
			return
		}
		s.RemoteCandidates = append(s.RemoteCandidates, RemoteCandidate{
			Media:     s.section(),
			Component: portNumber(component.of(b)),
			Addr:      addr,
			Port:      port,
			PortNum:   portNumber(port.of(b)),
		})
		s.parts++
	}
}

// paths reads a list of MSRP URIs: msrp://host:port/session;tcp.
func (s *SDP) paths(value Span) {
	b := s.Raw
	w := words{b, value.Lo, value.Hi}
	for s.parts <= MaxSDPParts {
		uri := w.next()
		if uri.Empty() {
			return
		}
		colon := index(b, uri.Lo, uri.Hi, ':')
		if colon < 0 || uri.Hi-colon < 4 || b[colon+1] != '/' || b[colon+2] != '/' {
			continue
		}
		scheme := Span{uri.Lo, colon}.of(b)
		if !EqualFold(scheme, "msrp") && !EqualFold(scheme, "msrps") {
			continue
		}
		lo := colon + 3
		hi := lo
		for hi < uri.Hi && b[hi] != '/' && b[hi] != ';' {
			hi++
		}
		if at := index(b, lo, hi, '@'); at >= 0 {
			lo = at + 1
		}
		p := Path{Media: s.section()}
		p.Host, p.Port, p.HostPort = splitHostPort(b, lo, hi)
		if p.Host.Empty() {
			continue
		}
		p.PortNum = portNumber(p.Port.of(b))
		s.Paths = append(s.Paths, p)
		s.parts++
	}
}
