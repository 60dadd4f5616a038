from django.contrib import admin

from .models import Team

__all__ = ["TeamAdmin"]


@admin.register(Team)
class TeamAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["name", "source", "onboarding_pipeline_status", "onboarding_pipeline_error"]
    list_filter = ["onboarding_pipeline_status"]
    readonly_fields = [
        "onboarding_pipeline_status",
        "onboarding_pipeline_error",
        "onboarding_pipeline_started_at",
        "onboarding_pipeline_completed_at",
    ]
