"""How this process reaches S3. Apart from the client, so that boto3 is imported only where an S3 address is used."""

from typing import Annotated, Literal, Self

from pydantic import StringConstraints, field_validator, model_validator

from ragjob.settings import Address, Decides, Section, names_no_user, setting


class S3(Section):
    """How S3 is reached. Credentials come from the standard AWS chain alone."""

    endpoint_url: Address | None = setting(
        None, decides=Decides.NEITHER, description="address of an S3 server; AWS by default"
    )
    region: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)] | None = setting(
        None, decides=Decides.NEITHER, description="region of all buckets; by default detected for each bucket"
    )
    path_style: bool | None = setting(
        None,
        decides=Decides.NEITHER,
        description="true: bucket in the path; false: in the host name; by default false for AWS, else true",
    )
    timeout_s: float = setting(
        60, decides=Decides.NEITHER, description="seconds for a request, retries included, before the job fails", gt=0
    )
    sse: Literal["AES256", "aws:kms"] | None = setting(
        None,
        decides=Decides.NEITHER,
        description="server-side encryption to request, AES256 or aws:kms; by default the bucket's own",
    )
    kms_key_id: str | None = setting(
        None, decides=Decides.NEITHER, description="KMS key for aws:kms; by default the account's own", min_length=1
    )

    _no_user = field_validator("endpoint_url")(names_no_user)

    @model_validator(mode="after")
    def _key_has_its_mode(self) -> Self:
        if self.kms_key_id and self.sse != "aws:kms":
            raise ValueError("kms_key_id is set but sse isn't aws:kms; set sse to aws:kms, or leave the key out")
        return self


current = S3()


def configure(s3: S3) -> None:
    """Use `s3` for all that follows in this process."""
    global current
    current = s3
