"""What was counted of incidents, as a report's body says it."""

from warden.agent.incident_report import body


def collect(incidents):
    """Remove the rows of Incidents, and return them as report bodies."""
    bodies = [body(key, row[0]) for key, row in incidents.rows.items()]
    incidents.rows, incidents.due = {}, None
    return bodies
