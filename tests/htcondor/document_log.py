"""An event log that has just the hours of the OSG document's table, and what it is told with."""

from osg.event_log import EventLog

__all__ = ["HOUR", "Story", "write_document_log"]

HOUR = 3600


class Story:
    """One job's events, one after the other; seconds."""

    def __init__(self, log, process, begin=0):
        self.log, self.process, self.now = log, process, begin
        log.submitted(process, 0)

    def go(self, seconds):
        self.now += round(seconds)
        return self.now

    def failed_transfer(self, seconds):
        self.log.transfer(self.process, self.now, None)
        self.log.failed_shadow(self.process, self.go(seconds), "transfer of input files stalled")

    def start(self, transfer):
        begin = self.now
        self.log.transfer(self.process, begin, self.go(transfer))
        self.log.executing(self.process, self.now)

    def preempted(self, transfer, compute, checkpointed=False):
        self.start(transfer)
        self.log.evicted(self.process, self.go(compute), checkpointed)

    def finish(self, transfer, compute, status=0):
        self.start(transfer)
        self.log.terminated(self.process, self.go(compute), status)

    def held(self, seconds):
        self.failed_transfer(seconds)
        self.log.held(self.process, self.go(1), "Transfer input files failure")


def write_document_log(path):
    """100 jobs with the document's hours: 79 successes, 18 held, 3 wrong; a median of 4.9 and a mean of 8.6 hours."""
    log = EventLog(cluster=7)
    # Of 79 jobs: 39 below the median, the median itself, 39 above it; the hours of what is asked for add up.
    compute = share_out(318.6 * HOUR, 79)
    transfer = share_out(45.8 * HOUR, 79)
    # 12.8 of the 16 + 0.8 hours of preemption are of jobs that succeed, so that their mean is 8.6 hours.
    preempted = {78: (12.2 * HOUR, 0.6 * HOUR)}
    usual = compute[0] + transfer[0]
    below = 4.9 * HOUR - usual - 60
    retried = [max(0, below)] * 39 + [4.9 * HOUR - compute[39] - transfer[39]]
    retried += share_out(302.2 * HOUR - sum(map(round, retried)), 39)
    for process in range(79):
        story = Story(log, process, begin=process * HOUR)
        if retried[process]:
            story.failed_transfer(retried[process])
        if process in preempted:
            story.preempted(preempted[process][1], preempted[process][0])
        story.finish(transfer[process], compute[process])
    for process in range(79, 97):
        story = Story(log, process, begin=process * HOUR)
        if process == 79:
            story.preempted(0.2 * HOUR, 3.8 * HOUR)
        story.held(2 * HOUR)
    for process, hours in zip(range(97, 100), share_out(2.2 * HOUR, 3), strict=True):
        Story(log, process, begin=5 * 24 * HOUR).finish(hours, 0.2 * HOUR, status=1)
    # The last one is done after a week.
    log.submitted(100, 0)
    log.aborted(100, 7 * 24 * HOUR)
    log.write(path)


def share_out(total, count):
    """So many whole numbers of seconds that add up to `total`."""
    total = round(total)
    return [total * (number + 1) // count - total * number // count for number in range(count)]
