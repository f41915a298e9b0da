"""How this process reaches S3. Apart from the client, so that boto3 is imported only where an S3 address is used."""

from job.config import S3

current = S3()


def configure(s3: S3) -> None:
    """Use `s3` for all that follows in this process."""
    global current
    current = s3
