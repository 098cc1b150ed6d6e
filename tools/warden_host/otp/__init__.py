"""One-time passwords at keypads: settings, enrolment, codes, and their delivery.

Entry point: service.OtpService.
May import: engine, fleet, protocol, store.
"""
